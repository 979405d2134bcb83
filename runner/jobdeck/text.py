"""Text from jobs is hostile to the operator's terminal: one function makes it inert, at write and again at render."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_ZWJ: Final = "\u200d"
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_EMOJI: Final = re.compile("[\u2190-\u2bff\ufe0f\U0001f000-\U0001faff]")
_ELLIPSIS: Final = "…"
_MARKS: Final = frozenset({"Mn", "Me"})
# More marks on one base than any script needs; a pile of 1,000 takes over the lines around it.
_COMBINING_MAX: Final = 8


def clean(text: str, limit: int | None = None, *, lines: bool = False) -> str:
    """`text` with everything a terminal could obey made visible, cut to `limit` characters.

    Control, format, surrogate, private and separator characters become `\\x1b`-style text. A tab becomes a
    space; a line break stays only with `lines=True` and else becomes ` | `. A joiner stays between emoji.
    """
    if limit is not None and len(text) > limit:
        text = text[: max(limit - 1, 0)] + _ELLIPSIS
    if text.isascii() and text.isprintable():
        return text
    if not lines:
        text = " | ".join(text.splitlines()) if len(text.splitlines()) > 1 else text.rstrip("\r\n")
    shown = "".join(_shown(text, index, char, lines) for index, char in enumerate(text))
    shown = _limit_marks(shown)
    if limit is not None and len(shown) > limit:
        # A joiner at the cut would have nothing to join.
        shown = shown[: max(limit - 1, 0)].rstrip(_ZWJ) + _ELLIPSIS
    return shown


def quoted(text: str, limit: int | None = None) -> str:
    """`text` as a message names it: inert and in quotes, each character that is escaped escaped once."""
    return f"'{clean(text, limit)}'"


def _shown(text: str, index: int, char: str, lines: bool) -> str:
    if char == "\n" and lines:
        return char
    if char == "\t":
        return " "
    if unicodedata.category(char) not in _HIDDEN:
        return " " if char == "\u00a0" else char
    if char == _ZWJ and _joins_emoji(text, index):
        return char
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _joins_emoji(text: str, index: int) -> bool:
    return 0 < index < len(text) - 1 and bool(_EMOJI.match(text[index - 1]) and _EMOJI.match(text[index + 1]))


def _limit_marks(text: str) -> str:
    if text.isascii():
        return text
    out: list[str] = []
    run = 0
    for char in text:
        run = run + 1 if unicodedata.category(char) in _MARKS else 0
        if run <= _COMBINING_MAX:
            out.append(char)
    return "".join(out)


def cut_bytes(text: str, limit: int) -> str:
    """At most `limit` bytes of UTF-8, never half a character, with a mark where something was cut."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= limit:
        return data.decode()
    mark = "… (cut)"
    return data[: limit - len(mark.encode())].decode("utf-8", "ignore") + mark
