"""Follows redirects hop by hop; each hop passes the same gate as the first URL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias
from urllib.parse import urldefrag, urljoin

from jobdeck import HttpError, HttpResponse, ValidationError
from jobdeck_handlers.sitemap_check.fetch import TIMED_OUT, TOO_LARGE, Fetcher
from jobdeck_handlers.sitemap_check.finding import Verdict

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a URL is not asked for, or did not answer."""

    verdict: Verdict
    detail: str


Gate: TypeAlias = Callable[[str], Awaitable[Refusal | None]]
"""Says of a URL, before it is asked for, why it may not be."""


@dataclass(frozen=True, slots=True)
class Journey:
    """Where a URL led to."""

    hops: tuple[str, ...]
    """The URLs it redirected to, in order."""
    response: HttpResponse | None
    """The last answer; a redirect where that could not be followed."""
    refusal: Refusal | None
    """Why it ended without the answer of a page."""


async def follow(
    fetcher: Fetcher,
    url: str,
    *,
    most: int,
    gate: Gate,
    max_bytes: int,
    on_overflow: Literal["error", "truncate"] = "truncate",
) -> Journey:
    """Ask for `url` and follow at most `most` redirects."""
    visited = [url]
    response: HttpResponse | None = None
    while True:
        refusal = await gate(visited[-1])
        if refusal is None:
            try:
                response = await fetcher.get(visited[-1], max_bytes=max_bytes, on_overflow=on_overflow)
            except HttpError as error:
                response, refusal = None, explained(error)
        elif len(visited) > 1 and refusal.verdict is Verdict.OTHER_HOST:
            refusal = Refusal(Verdict.REDIRECT_ELSEWHERE, refusal.detail)
        if refusal is None and response is not None and response.status in _REDIRECTS:
            following = _target(visited[-1], response)
            refusal = _circle(visited, following, most)
            if refusal is None:
                visited.append(following)
                continue
        return Journey(tuple(visited[1:]), response, refusal)


def explained(error: HttpError) -> Refusal:
    """What the failure of a request says about its URL."""
    if isinstance(error, ValidationError):
        return Refusal(Verdict.REFUSED, str(error))
    if error.code == TOO_LARGE:
        return Refusal(Verdict.HTTP_ERROR, str(error))
    return Refusal(Verdict.TIMEOUT if error.code == TIMED_OUT else Verdict.UNREACHABLE, str(error))


def _circle(visited: list[str], following: str, most: int) -> Refusal | None:
    if not following:
        return Refusal(Verdict.REDIRECT_BROKEN, "redirects without saying where to")
    if following in visited:
        return Refusal(Verdict.REDIRECT_LOOP, f"redirects back to {following}")
    if len(visited) > most:
        return Refusal(Verdict.TOO_MANY_REDIRECTS, f"redirects more than {most} times")
    return None


def _target(url: str, response: HttpResponse) -> str:
    location = response.headers.get("location", "").strip()
    with suppress(UnicodeError):
        # Servers that write a path as it reads send UTF-8; headers are handed over as latin-1.
        location = location.encode("latin-1").decode()
    try:
        return urldefrag(urljoin(url, location)).url if location else ""
    except ValueError:
        return ""
