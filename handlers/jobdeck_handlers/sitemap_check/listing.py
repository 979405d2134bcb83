"""Which pages there are to check: those a run names, or those of a sitemap and the sitemaps it names."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from jobdeck import Discard, Retry
from jobdeck_handlers.answers import may_pass
from jobdeck_handlers.sitemap_check.fetch import Fetcher
from jobdeck_handlers.sitemap_check.finding import Finding, Verdict, plain
from jobdeck_handlers.sitemap_check.params import URL_CHARS, CheckParams
from jobdeck_handlers.sitemap_check.redirects import Gate, Refusal, follow
from jobdeck_handlers.sitemap_check.sitemap import SITEMAP_BYTES, Contents, Unreadable, read_sitemap

SITEMAPS: Final = 1_000
"""Most sitemap files of one check. With 50 URLs each they fill the largest check."""
LEVELS: Final = 3
"""How deep sitemaps may name sitemaps; the protocol knows 2."""

_PASSING: Final = frozenset({Verdict.UNREACHABLE, Verdict.TIMEOUT})


@dataclass(slots=True)
class Listing:
    """What is checked, each URL once and in order, with what is known without asking for it."""

    entries: dict[str, Finding | None] = field(default_factory=dict)
    pages: int = 0
    sitemaps: int = 0
    cut: bool = False
    """There is more than is checked."""
    full: bool = False

    def add(self, urls: list[str], most: int) -> None:
        """Add pages, until there are `most`."""
        for url in urls:
            if url in self.entries:
                continue
            if self.pages >= most:
                self.cut = self.full = True
                return
            self.entries[url] = _impossible(url)
            self.pages += 1


async def list_pages(params: CheckParams, fetcher: Fetcher, gate: Gate) -> Listing:
    """The pages to check. Raises Discard for a sitemap that is none, Retry for one that cannot be had now."""
    listing = Listing()
    if params.urls is not None:
        listing.add(params.urls, params.max_pages)
        return listing
    waiting = deque([(params.sitemap or "", 1)])
    seen = {params.sitemap}
    while waiting and not listing.full:
        fetcher.ctx.raise_if_cancelled()
        url, level = waiting.popleft()
        try:
            contents = await _contents(url, fetcher, gate, params)
        except _Failed as failure:
            if level == 1:
                raise failure.outcome from None
            listing.entries[url] = failure.finding
            fetcher.ctx.log.warn("sitemap not read", url=plain(url, URL_CHARS), reason=failure.finding.detail)
            continue
        listing.sitemaps += 1
        listing.add(contents.pages, params.max_pages)
        listing.cut = listing.cut or contents.cut
        for each in contents.sitemaps:
            if each in seen:
                continue
            seen.add(each)
            if level == LEVELS:
                listing.entries[each] = Finding(Verdict.SITEMAP, f"is named more than {LEVELS} levels deep")
            elif len(seen) <= SITEMAPS:
                waiting.append((each, level + 1))
            else:
                listing.cut = True
        fetcher.ctx.progress(
            0, message=f"Read {listing.sitemaps} sitemaps with {listing.pages:,} pages so far"
        )
    return listing


def _impossible(url: str) -> Finding | None:
    # Such a text cannot be stored as it is, and no server would understand it.
    if len(url) > URL_CHARS:
        return Finding(Verdict.REFUSED, f"the URL has more than {URL_CHARS:,} characters")
    if plain(url, URL_CHARS) != url:
        return Finding(Verdict.REFUSED, "the URL has characters that no URL may have")
    return None


class _Failed(Exception):
    """A sitemap that could not be read: what it means for the run, and as a row of the report."""

    def __init__(self, reason: str, *, passing: bool, status: int | None = None) -> None:
        self.outcome = Retry(f"the sitemap {reason}") if passing else Discard(f"the sitemap {reason}")
        self.finding = Finding(Verdict.SITEMAP, plain(reason), status)


async def _contents(url: str, fetcher: Fetcher, gate: Gate, params: CheckParams) -> Contents:
    journey = await follow(
        fetcher, url, most=params.max_redirects, gate=gate, max_bytes=SITEMAP_BYTES, on_overflow="error"
    )
    response = journey.response
    if journey.refusal is not None or response is None:
        raise _failed(journey.refusal, None if response is None else response.status)
    if not response.ok:
        raise _Failed(
            f"answered {response.status}", passing=may_pass(response.status), status=response.status
        )
    try:
        return await asyncio.to_thread(read_sitemap, response.body, max(params.max_pages, SITEMAPS))
    except Unreadable as error:
        raise _Failed(str(error), passing=False, status=response.status) from None


def _failed(refusal: Refusal | None, status: int | None) -> _Failed:
    if refusal is None:
        return _Failed("did not answer", passing=True)
    return _Failed(f"cannot be read: {refusal.detail}", passing=refusal.verdict in _PASSING, status=status)
