"""Reads one sitemap file: XML, gzip or a plain list. What is in it is a stranger's, so everything is bounded."""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat

from jobdeck_handlers.sitemap_check.params import URL_CHARS

SITEMAP_BYTES: Final = 50 * 1024 * 1024
"""Largest sitemap, uncompressed (sitemaps.org: 52,428,800 bytes)."""
DEPTH: Final = 16
"""Deepest nesting of elements; the protocol and its extensions need 5."""
TOKEN_BYTES: Final = 1024 * 1024
"""Longest piece without a sign of structure: expat before 2.6 reads an unfinished one again with every chunk."""
_CHUNK: Final = 64 * 1024
_GZIP: Final = b"\x1f\x8b"
_XML_BEGINS: Final = (b"<", b"\xff\xfe", b"\xfe\xff")


class Unreadable(Exception):
    """The file is no sitemap; says why."""


@dataclass(slots=True)
class Contents:
    """What a sitemap names, in its order. URLs are as written, cut one character after the longest allowed."""

    pages: list[str] = field(default_factory=list)
    sitemaps: list[str] = field(default_factory=list)
    cut: bool = False
    """There were more than were asked for."""


def read_sitemap(body: bytes, most: int) -> Contents:
    """The first `most` entries of a sitemap. Raises Unreadable.

    Takes a third of a second for the largest sitemap: to be called in a thread.
    """
    pieces = _pieces(body)
    first = next(pieces, b"")
    if first.lstrip(codecs.BOM_UTF8 + b" \t\r\n").startswith(_XML_BEGINS):
        return _Xml(most).read(first, pieces)
    return _read_lines(first, pieces, most)


def unpacked_beginning(body: bytes, most: int) -> bytes:
    """The first `most` bytes of `body`, unpacked where it is gzip and cut or not. Raises Unreadable."""
    if not body.startswith(_GZIP):
        return body[:most]
    try:
        return zlib.decompressobj(wbits=31).decompress(body, most)
    except zlib.error:
        raise Unreadable("is a damaged gzip file") from None


def _pieces(body: bytes) -> Iterator[bytes]:
    if not body.startswith(_GZIP):
        for start in range(0, len(body), _CHUNK):
            yield body[start : start + _CHUNK]
        return
    total = 0
    for piece in _unzipped(body):
        total += len(piece)
        if total > SITEMAP_BYTES:
            raise Unreadable(f"has more than {SITEMAP_BYTES:,} bytes when unpacked")
        yield piece


def _unzipped(body: bytes) -> Iterator[bytes]:
    rest = body
    try:
        # A gzip file may be several of them, one after the other; what follows the last is padding.
        while rest.startswith(_GZIP):
            unpacker = zlib.decompressobj(wbits=31)
            while rest and not unpacker.eof:
                yield unpacker.decompress(rest, _CHUNK)
                rest = unpacker.unconsumed_tail
            if not unpacker.eof:
                raise Unreadable("is a gzip file that ends too early")
            rest = unpacker.unused_data
    except zlib.error:
        raise Unreadable("is a damaged gzip file") from None


class _Enough(Exception):
    pass


class _Xml:
    """A DOCTYPE is refused, and with it every entity but the five of XML itself; nothing outside is ever read."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._found = Contents()
        self._path: list[str] = []
        self._into: list[str] | None = None
        self._loc: list[str] | None = None
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text

    def read(self, first: bytes, pieces: Iterator[bytes]) -> Contents:
        fed = 0
        try:
            while first:
                self._parser.Parse(first, False)
                fed += len(first)
                if fed - max(self._parser.CurrentByteIndex, 0) > TOKEN_BYTES:
                    raise Unreadable(f"has a single tag, comment or text of more than {TOKEN_BYTES:,} bytes")
                first = next(pieces, b"")
            self._parser.Parse(b"", True)
        except _Enough:
            self._found.cut = True
        except expat.ExpatError as error:
            reason = expat.errors.messages.get(error.code, "not well-formed")
            raise Unreadable(f"is not valid XML: {reason} in line {error.lineno}") from None
        return self._found

    def _doctype(self, *_: object) -> None:
        raise Unreadable("has a DOCTYPE, which no sitemap has; is it a page of HTML?")

    def _start(self, name: str, _: object) -> None:
        self._path.append(name)
        if len(self._path) > DEPTH:
            raise Unreadable(f"has elements nested deeper than {DEPTH}")
        if len(self._path) == 1:
            self._root(name.rpartition(" ")[2])
        elif len(self._path) == 3 and name == self._own("loc"):
            self._loc = []

    def _root(self, name: str) -> None:
        if name == "urlset":
            self._into = self._found.pages
        elif name == "sitemapindex":
            self._into = self._found.sitemaps
        else:
            raise Unreadable(f"is XML but no sitemap: it begins with <{name[:60]}>")

    def _own(self, name: str) -> str:
        """`name` in the namespace of the root: a sitemap's own loc, and not that of an image in it."""
        namespace, space, _ = self._path[0].rpartition(" ")
        return f"{namespace}{space}{name}"

    def _text(self, text: str) -> None:
        # A text without an end is cut here, piece by piece, so that it is never held as a whole.
        if self._loc is not None and sum(map(len, self._loc)) <= URL_CHARS:
            self._loc.append(text[: URL_CHARS + 1])

    def _end(self, _: str) -> None:
        if len(self._path) == 3 and self._loc is not None and self._into is not None:
            if len(self._into) >= self._most:
                raise _Enough
            loc = "".join(self._loc).strip()[: URL_CHARS + 1]
            if loc:
                self._into.append(loc)
            self._loc = None
        self._path.pop()


def _read_lines(first: bytes, pieces: Iterator[bytes], most: int) -> Contents:
    found = Contents()
    for word in _words(first, pieces):
        if not found.pages and not word.lower().startswith(("http://", "https://")):
            raise Unreadable("is neither XML nor a list of URLs, one a line")
        if len(found.pages) >= most:
            found.cut = True
            break
        found.pages.append(word[: URL_CHARS + 1])
    return found


def _words(piece: bytes, pieces: Iterator[bytes]) -> Iterator[str]:
    """What stands between blanks and ends of lines. No URL has either, and this way empty lines cost nothing."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
    rest = ""
    while piece:
        text = rest + decoder.decode(piece)
        words = text.split()
        unfinished = words and not text[-1].isspace()
        rest = words.pop()[: URL_CHARS + 1] if unfinished else ""
        yield from words
        piece = next(pieces, b"")
    if rest:
        yield rest
