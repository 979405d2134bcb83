"""What the head of a page says: title, canonical links, robots. Reads until the head ends and no further."""

from __future__ import annotations

import codecs
import re
from contextlib import suppress
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Final

from jobdeck_handlers.sitemap_check.finding import TEXT_CHARS

HEAD_BYTES: Final = 256 * 1024
"""How much of a page is fetched to find the end of its head; what a longer one says after that is not seen."""

# Any other element, and any text outside of these, is where the body begins (HTML Standard 13.2.6.4.4).
_IN_HEAD: Final = frozenset(
    {"html", "head", "title", "meta", "link", "script", "style", "base", "noscript", "template"}
)
_WITH_TEXT: Final = frozenset({"title", "script", "style", "noscript", "template"})
_CHARSET: Final = re.compile(rb"""charset\s*=\s*["']?\s*([a-z0-9_:.-]{1,40})""", re.IGNORECASE)
_SNIFFED: Final = 1024
# A stranger names the codec, and Python has some that are no charsets: only those of the Encoding Standard.
_CODECS: Final = frozenset(
    {
        *(
            "utf-8",
            "ascii",
            "utf-16",
            "utf-16-le",
            "utf-16-be",
            "koi8-r",
            "koi8-u",
            "gbk",
            "gb18030",
            "gb2312",
        ),
        *("big5", "euc_jp", "shift_jis", "iso2022_jp", "euc_kr"),
        *(f"cp{number}" for number in range(1250, 1259)),
        *(f"iso8859-{number}" for number in range(1, 17) if number != 12),
    }
)


@dataclass(slots=True)
class Head:
    """The head of one page. `title` is the first; None where there is none."""

    title: str | None = None
    canonicals: list[str] = field(default_factory=list)
    robots: set[str] = field(default_factory=set)
    """Directives of `meta name=robots`, in lower case."""


class _Body(Exception):
    """The head is over."""


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.head = Head()
        self._open: str | None = None
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._open == "title":
            return
        if tag not in _IN_HEAD:
            if self._open is None:
                raise _Body
            return
        if tag in _WITH_TEXT and self._open is None:
            self._open = tag
        values = {name: value or "" for name, value in reversed(attrs)}
        if tag == "link" and "canonical" in values.get("rel", "").lower().split():
            self.head.canonicals.append(values.get("href", "").strip())
        elif tag == "meta" and values.get("name", "").strip().lower() == "robots":
            self.head.robots |= directives(values.get("content", ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _WITH_TEXT and self._open == tag:
            self._open = None

    def handle_endtag(self, tag: str) -> None:
        if tag == self._open:
            if tag == "title" and self.head.title is None:
                self.head.title = " ".join("".join(self._text).split())
            self._open = None
        elif tag == "head":
            raise _Body

    def handle_data(self, data: str) -> None:
        if self._open == "title":
            if self.head.title is None and len(self._text) < TEXT_CHARS:
                self._text.append(data[: 4 * TEXT_CHARS])
        elif self._open is None and data.strip():
            raise _Body


def read_head(body: bytes, content_type: str) -> Head:
    """The head of the page that begins with `body`. Takes any bytes; to be called in a thread."""
    reader = _Reader()
    with suppress(_Body):
        # All at once: fed in pieces, a tag without an end would be read again with each of them.
        reader.feed(_decoded(body, content_type))
    return reader.head


def directives(text: str) -> set[str]:
    """`noindex, nofollow` as a set in lower case."""
    return {each.strip().lower() for each in text.split(",")}


def _decoded(body: bytes, content_type: str) -> str:
    for mark, codec in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if body.startswith(mark):
            return body.decode(codec, errors="replace")
    return body.decode(
        _codec(content_type.encode(errors="replace")) or _codec(body[:_SNIFFED]) or "utf-8", "replace"
    )


def _codec(text: bytes) -> str | None:
    found = _CHARSET.search(text)
    if found is None:
        return None
    try:
        name = codecs.lookup(found[1].decode()).name
    except LookupError:
        return None
    # Servers that say latin-1 mean windows-1252 (Encoding Standard 4.2).
    name = "cp1252" if name in ("iso8859-1", "ascii") else name
    return name if name in _CODECS else None
