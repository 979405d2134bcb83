"""Visits one page and judges it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote, urlsplit

from jobdeck import Context, HttpError, HttpResponse
from jobdeck_handlers.sitemap_check.fetch import Fetcher
from jobdeck_handlers.sitemap_check.finding import Finding, Verdict, plain
from jobdeck_handlers.sitemap_check.head import HEAD_BYTES, Head, directives, read_head
from jobdeck_handlers.sitemap_check.params import URL_CHARS, CheckParams
from jobdeck_handlers.sitemap_check.redirects import Journey, Refusal, explained, follow
from jobdeck_handlers.sitemap_check.robots import Robots
from jobdeck_handlers.sitemap_check.sitemap import Unreadable, unpacked_beginning

_HTML: Final = ("", "text/html", "application/xhtml+xml")
_PORTS: Final = {"http": 80, "https": 443}
# Directives of X-Robots-Tag that have a colon and are not the name of a robot.
_WITH_VALUE: Final = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})


class Pages:
    """The pages of one run."""

    def __init__(self, ctx: Context, params: CheckParams, fetcher: Fetcher) -> None:
        self._ctx = ctx
        self._params = params
        self._fetcher = fetcher
        named = [params.sitemap] if params.sitemap else params.urls or []
        self._hosts = {_host(url) for url in named} if params.same_host else None
        self._robots = Robots(fetcher, self.permitted)

    async def permitted(self, url: str) -> Refusal | None:
        """Why a URL may not be asked for, robots.txt aside."""
        if len(url) > URL_CHARS:
            return Refusal(Verdict.REFUSED, f"the URL has more than {URL_CHARS:,} characters")
        host = _host(url)
        if self._hosts is not None and host and host not in self._hosts:
            return Refusal(Verdict.OTHER_HOST, f"{plain(host, 100)} is another host than the sitemap's")
        try:
            self._ctx.http.check(url)
        except HttpError as error:
            return explained(error)
        return None

    async def check(self, url: str) -> Finding:
        """What there is to say about the page. Never fails because of what a page or its host does."""
        journey = await follow(
            self._fetcher, url, most=self._params.max_redirects, gate=self._gate, max_bytes=HEAD_BYTES
        )
        return await self._finding(url, journey)

    async def _gate(self, url: str) -> Refusal | None:
        refusal = await self.permitted(url)
        if refusal is not None:
            return refusal
        return await self._robots.refusal(url, self._ctx.http.check(url).origin)

    async def _finding(self, url: str, journey: Journey) -> Finding:
        response = journey.response
        head = None
        if journey.refusal is None and response is not None and response.ok:
            head = await asyncio.to_thread(_head, response)
        problems = list(self._problems(url, journey, head))
        canonical = next(iter(head.canonicals), None) if head else None
        return Finding(
            verdict=min((verdict for verdict, _ in problems), key=_SEVERITY.__getitem__, default=Verdict.OK),
            detail=plain("; ".join(detail for _, detail in problems)),
            status=None if response is None else response.status,
            final_url=plain(journey.hops[-1], URL_CHARS) if journey.hops else None,
            redirects=len(journey.hops),
            title=None if head is None or head.title is None else plain(head.title),
            canonical=None if canonical is None else plain(canonical, URL_CHARS),
            response_ms=None if response is None else response.timing.total_ms,
        )

    def _problems(self, url: str, journey: Journey, head: Head | None) -> Iterator[tuple[Verdict, str]]:
        response = journey.response
        if journey.refusal is not None:
            yield journey.refusal.verdict, journey.refusal.detail
        elif response is not None and not response.ok:
            yield Verdict.HTTP_ERROR, f"answered {response.status}"
        if journey.hops:
            yield Verdict.REDIRECT, redirects_in_words(url, journey)
        if journey.refusal is not None or response is None or not response.ok:
            return
        if "noindex" in _tags(response) or "none" in _tags(response):
            yield Verdict.NOINDEX, "X-Robots-Tag says noindex"
        if head is not None:
            yield from self._of_head(head, journey.hops[-1] if journey.hops else url)
        if response.timing.total_ms > self._params.slow.total_seconds() * 1000:
            yield Verdict.SLOW, f"took {response.timing.total_ms / 1000:.1f} s"

    def _of_head(self, head: Head, url: str) -> Iterator[tuple[Verdict, str]]:
        if not head.robots.isdisjoint({"noindex", "none"}):
            yield Verdict.NOINDEX, "meta robots says noindex"
        yield from _canonical(head, url)
        if head.title is None:
            yield Verdict.TITLE_MISSING, "has no title"
        elif not plain(head.title):
            yield Verdict.TITLE_EMPTY, "has an empty title"
        elif len(head.title) > self._params.title_max:
            yield Verdict.TITLE_LONG, f"the title has {len(head.title):,} characters"


_SEVERITY: Final = {verdict: place for place, verdict in enumerate(Verdict)}


def _canonical(head: Head, url: str) -> Iterator[tuple[Verdict, str]]:
    if not head.canonicals or not any(head.canonicals):
        yield Verdict.CANONICAL_MISSING, "has no canonical link"
        return
    canonical = head.canonicals[0]
    if len({same_spelling(each) for each in head.canonicals}) > 1:
        yield Verdict.CANONICAL_CONFLICT, f"has {len(head.canonicals)} canonical links that differ"
    elif not canonical.lower().startswith(("http://", "https://")):
        yield Verdict.CANONICAL_RELATIVE, f"the canonical link is not absolute: {canonical}"
    elif same_spelling(canonical) != same_spelling(url):
        yield Verdict.CANONICAL_OTHER, f"the canonical page is {canonical}"


def same_spelling(url: str) -> str:
    """Equal for URLs that mean the same page: case of the host, default port, escapes and fragment aside."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return url
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=-._~")
    query = quote(parts.query, safe="/%:@!$&'()*+,;=-._~?|[]^")
    return f"{parts.scheme}://{parts.hostname}:{port}{path}?{query}"


def redirects_in_words(url: str, journey: Journey) -> str:
    """`redirects to https://… in 2 hops, from http to https`."""
    last = journey.hops[-1]
    secured = urlsplit(url).scheme == "http" and last.startswith("https:")
    return (
        f"redirects to {last}"
        + (f" in {len(journey.hops)} hops" if len(journey.hops) > 1 else "")
        + (", from http to https" if secured else "")
    )


def _head(response: HttpResponse) -> Head | None:
    """The head of a page of HTML; None for other documents."""
    content_type = response.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() not in _HTML:
        return None
    try:
        # Asked not to, some servers compress all the same.
        body = unpacked_beginning(response.body, HEAD_BYTES)
    except Unreadable:
        return None
    return read_head(body, content_type)


def _tags(response: HttpResponse) -> set[str]:
    """Directives of X-Robots-Tag that are meant for every robot."""
    found: set[str] = set()
    for value in response.headers.get_list("x-robots-tag"):
        name, colon, _ = value.partition(":")
        if not colon or "," in name or name.strip().lower() in _WITH_VALUE:
            found |= directives(value)
    return found


def _host(url: str) -> str | None:
    """The host in one spelling; None where there is none."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".")
        return host.encode("idna").decode() or None
    except ValueError:
        # No name that could be looked up, UnicodeError included: the guarded client says what is wrong with it.
        return None
