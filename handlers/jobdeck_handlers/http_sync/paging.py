"""From one page to the next, without input or output: which request a position means, and what follows an answer.

A position is JSON, so that it can be stored: a page number, an offset, a cursor or a URL; None is the first page
of a source that names its pages itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import urljoin, urlsplit

from jobdeck import Discard
from jobdeck_handlers.http_sync.params import (
    Cursors,
    LinkHeaders,
    NextUrls,
    NoPages,
    Offsets,
    PageNumbers,
    SyncParams,
)
from jobdeck_handlers.http_sync.records import MISSING, at_path

Position: TypeAlias = int | str | None

# Characters. Common servers refuse a request line of more than 8 KiB, so nothing longer can be asked for.
_POSITION_CHARS: Final = 8_000
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_LINK: Final = re.compile(r"""<([^<>]*)>((?:\s*;\s*[^\s=;,]+\s*(?:=\s*(?:"[^"]*"|[^\s";,]*))?)*)""")
_REL: Final = re.compile(r""";\s*rel\s*=\s*(?:"([^"]*)"|([^\s";,]*))""", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask for."""

    url: str
    query: Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, as far as the next page depends on it."""

    url: str
    """The URL that was asked, query included."""
    body: Any
    link: str
    """The `Link` headers, joined by commas; empty if there are none."""
    records: int
    """How many records the page had."""
    left: bool
    """False once as many records were seen as the source says there are."""


def first(params: SyncParams) -> Position:
    """Where a sync starts."""
    match params.pagination:
        case PageNumbers(start=start):
            return start
        case Offsets():
            return 0
        case _:
            return None


def request(params: SyncParams, position: Position, since: str | int | float | None) -> Request:
    """The request for the page at `position`. `since` is the same for all pages of one run, so that they fit."""
    query: dict[str, str | int] = dict(params.query)
    if since is not None and params.since_param:
        query[params.since_param] = str(since)
    match params.pagination:
        case PageNumbers(param=param):
            return Request(params.url, query | {param: int(position or 0)})
        case Offsets(offset_param=offset_param, limit_param=limit_param, limit=limit):
            return Request(params.url, query | {offset_param: int(position or 0), limit_param: limit})
        case Cursors(param=param) if position is not None:
            return Request(params.url, query | {param: position})
        case NextUrls() | LinkHeaders() if position is not None:
            return Request(str(position), {})
        case _:
            return Request(params.url, query)


def following(params: SyncParams, position: Position, answer: Answer) -> Position:
    """The position after this answer; None where it was the last one. Raises Discard for one that may not be used.

    Numbered pages end with an empty one, because a page shorter than asked for may only mean that the server
    has a smaller limit than it was asked for. For the same reason an offset grows by what was received.
    """
    match params.pagination:
        case NoPages():
            return None
        case PageNumbers():
            return int(position or 0) + 1 if answer.records and answer.left else None
        case Offsets():
            return int(position or 0) + answer.records if answer.records and answer.left else None
        case Cursors(path=path):
            return _cursor(at_path(answer.body, path), path)
        case NextUrls(path=path):
            return _next_url(params.url, answer.url, at_path(answer.body, path), path)
        case LinkHeaders():
            return _next_url(params.url, answer.url, next_link(answer.link), "the Link header")


def next_link(header: str) -> str | None:
    """The target of `rel="next"` in a `Link` header."""
    for found in _LINK.finditer(header):
        rel = _REL.search(found[2])
        if rel and "next" in (rel[1] or rel[2] or "").lower().split():
            return found[1]
    return None


def _cursor(value: Any, path: str) -> Position:
    if value is MISSING or value is None or value is False or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, int | str) or len(str(value)) > _POSITION_CHARS:
        raise Discard(f"what the source gives at {path} is no cursor: {str(value)[:60]!r}")
    return value


def _next_url(source: str, asked: str, value: Any, where: str) -> Position:
    if value is MISSING or value is None or value is False or value == "":
        return None
    if not isinstance(value, str) or len(value) > _POSITION_CHARS:
        raise Discard(f"what the source gives in {where} is no URL: {str(value)[:60]!r}")
    try:
        url = urljoin(asked, value)
        same = _origin(url) == _origin(source)
    except ValueError:
        raise Discard(f"what the source gives in {where} is no URL: {value[:60]!r}") from None
    if not same:
        # The headers, with their credentials, would go there.
        raise Discard(
            f"the source names a next page on another origin than its own, {_shown(url)}; it was not followed"
        )
    return url


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise ValueError("user name in a URL")
    return parts.scheme, (parts.hostname or "").rstrip("."), parts.port or _DEFAULT_PORTS.get(parts.scheme)


def _shown(url: str) -> str:
    scheme, host, port = _origin(url)
    return f"{scheme[:20]}://{host[:100]}:{port}"
