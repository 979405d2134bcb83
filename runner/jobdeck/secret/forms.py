"""The forms in which one value may turn up: as it is, line by line, in base64, in a URL, in JSON, cut in two."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

LEAST: Final = 4
"""Shorter values hide nothing, and would mask half of every text."""
LONG: Final = 8
"""Shorter lines, encodings and pieces are words that stand in other places too."""
# Parts of an address that are masked alone; a path of fewer characters is no key of a webhook.
_PART: Final = 12


class Escaped(NamedTuple):
    """A form with quotes, backslashes and the like escaped, once or several times over: JSON within JSON."""

    anchor: str
    """A part that escapes leave alone, to be looked for first."""
    pattern: re.Pattern[str]


def forms_of(value: str) -> set[str]:
    """Everything to be masked where `value` is a secret."""
    return {form for whole in _wholes(value) for form in (whole, *_encodings(whole))}


def cuttable_forms_of(value: str) -> set[str]:
    """The forms to be known by a piece. No addresses: they begin and end like any other."""
    wholes = [whole for whole in _wholes(value) if "://" not in whole]
    return {form for whole in wholes for form in (whole, *_encodings(whole)) if len(form) >= LONG}


def escaped_of(value: str) -> set[Escaped]:
    """Patterns for what in the value may be escaped; none where nothing in it is."""
    found = set()
    for whole in _wholes(value):
        anchor = max(_PLAIN.findall(whole), key=len, default="")
        if len(anchor) >= LEAST and len(whole) >= LONG and anchor != whole:
            found.add(Escaped(anchor, re.compile("".join(map(_escaped, _CHARS.findall(whole))))))
    return found


def _escaped(char: str) -> str:
    if _PLAIN.fullmatch(char):
        return re.escape(char)
    if char.startswith("\\"):
        # As one run: several that may each be longer could be told apart in too many ways.
        return rf"\\{{{len(char)},{_DEEP * len(char)}}}"
    units = char.encode("utf-16-be", "surrogatepass")
    coded = "".join(rf"\\{{1,{_DEEP}}}u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
    named = "|".join(rf"\\{{1,{_DEEP}}}{name}" for name in (_NAMED.get(char), f"x{ord(char):02x}") if name)
    return rf"(?:\\{{0,{_DEEP}}}{re.escape(char)}|(?i:{coded}|{named}))"


def _wholes(value: str) -> set[str]:
    lines = {line for line in value.splitlines() if len(line) >= LONG}
    return {whole for whole in {value, value.strip(), *lines, *_parts(value)} if len(whole) >= LEAST}


def _parts(value: str) -> Iterator[str]:
    """Of a URL: its password, and with HTTP what makes the URL of a webhook secret."""
    try:
        parts = urlsplit(value.strip()) if "://" in value else None
    except ValueError:
        return
    if parts is None:
        return
    if password := parts.netloc.rpartition("@")[0].partition(":")[2]:
        yield from (password, unquote(password))
    if parts.scheme in ("http", "https"):
        found = [parts.path, *(item for _, item in parse_qsl(parts.query))]
        yield from (part for part in found if len(part) >= _PART)


def _encodings(value: str) -> Iterator[str]:
    if len(value) < LONG:
        return
    data = value.encode("utf-8", "surrogateescape")
    for text in _base64(data):
        yield text
        yield text.translate(_URL_SAFE)
    for text in (quote(data, safe=""), quote(data), quote_plus(data)):
        yield text
        yield _PERCENT.sub(lambda found: found[0].lower(), text)
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield repr(value)[1:-1]


# What stays as it is in JSON, in strings of Python and of most other languages.
_PLAIN: Final = re.compile(r"[A-Za-z0-9 !#$%()*+,.:;<=>?@\[\]^_`{|}~&-]+")
_NAMED: Final = {"\n": "n", "\t": "t", "\r": "r", "\b": "b", "\f": "f"}
_CHARS: Final = re.compile(r"\\+|.", re.DOTALL)
# Backslashes of four levels of escapes.
_DEEP: Final = 16
_URL_SAFE: Final = str.maketrans("+/", "-_")
_PERCENT: Final = re.compile("%[0-9A-F]{2}")


def _base64(data: bytes) -> Iterator[str]:
    """Whole, and as it stands within the base64 of a longer text, like `user:password`."""
    whole = b64encode(data).decode()
    yield whole
    yield whole.rstrip("=")
    for lead in range(3):
        text = b64encode(bytes(lead) + data).decode()
        # Characters at both ends hold bits of the neighbours.
        first = (0, 2, 3)[lead]
        last = len(text) - (0, 3, 2)[(lead + len(data)) % 3]
        if last - first >= LONG:
            yield text[first:last]
