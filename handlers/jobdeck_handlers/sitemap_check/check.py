"""The loop of `sitemap_check`: list the pages once, visit some at a time, store each as soon as it is judged."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Final, TypeAlias

from jobdeck import Context
from jobdeck_handlers.databases.destination import destination
from jobdeck_handlers.databases.target import Target, open_target
from jobdeck_handlers.sitemap_check import store
from jobdeck_handlers.sitemap_check.fetch import Fetcher
from jobdeck_handlers.sitemap_check.finding import Finding, Verdict, plain
from jobdeck_handlers.sitemap_check.listing import Listing, list_pages
from jobdeck_handlers.sitemap_check.page import Pages
from jobdeck_handlers.sitemap_check.params import URL_CHARS, CheckParams
from jobdeck_handlers.sitemap_check.report import CheckResult, mark_shared_titles, result
from jobdeck_handlers.sitemap_check.store import Held

LOGGED: Final = 1_000
"""Most pages with problems that an attempt logs; the table has them all."""
# Pages that are read ahead from the table: enough for the largest concurrency, and what memory holds of a check.
_READ: Final = 200
# A cancel is looked for this often (seconds) while all pages under way are slow.
_LOOK: Final = 0.5

# Pages are stored in groups: after so many, or so many seconds. A worker that dies has this to do again.
_STORED: Final = 100
_STORE: Final = 0.2

_Page: TypeAlias = tuple[int, str]
_Judged: TypeAlias = tuple[int, str, Finding]


async def run_check(ctx: Context, params: CheckParams) -> CheckResult:
    """Check all pages, from where an earlier attempt of the run stopped."""
    fetcher = Fetcher(ctx, params.user_agent, params.timeout.total_seconds())
    visitor = Pages(ctx, params, fetcher)
    async with open_target(destination(None, ctx.settings)) as target:
        held = await target.transact(
            partial(store.take_over, run_id=ctx.run_id, fence=ctx.fence, params=params)
        )
        if held.facts is None:
            listing = await list_pages(params, fetcher, visitor.permitted)
            facts = await target.transact(partial(store.save_listing, held=held, listing=listing))
            held = replace(held, facts=facts)
            _log_impossible(ctx, listing)
            del listing
        else:
            ctx.log.info("going on where an earlier attempt stopped")
        await _visit_all(ctx, params, target, held, visitor)
        titles = await target.transact(partial(mark_shared_titles, held=held))
        for each in titles:
            ctx.log.warn("title of several pages", title=each["title"], pages=each["pages"])
        _report(ctx, await target.transact(partial(store.tally, held=held)))
        return await target.transact(partial(result, held=held, titles=titles))


async def _visit_all(ctx: Context, params: CheckParams, target: Target, held: Held, visitor: Pages) -> None:
    counts = await target.transact(partial(store.tally, held=held))
    _report(ctx, counts)
    logged = 0
    async with aclosing(_judged(ctx, params.concurrency, target, held, visitor)) as batches:
        async for batch in batches:
            await target.transact(
                partial(store.save, held=held, findings=[(n, finding) for n, _, finding in batch])
            )
            for _, url, finding in batch:
                counts[finding.verdict] += 1
                counts[None] -= 1
                if finding.verdict.problem and logged < LOGGED:
                    logged += 1
                    _log(ctx, url, finding, last=logged == LOGGED)
            _report(ctx, counts)


async def _judged(
    ctx: Context, concurrency: int, target: Target, held: Held, visitor: Pages
) -> AsyncGenerator[Sequence[_Judged], None]:
    """The pages that are not checked yet, `concurrency` at a time, in the order in which they are done."""

    async def visit(page: _Page) -> _Judged:
        return (*page, await visitor.check(page[1]))

    ahead = _Ahead(target, held)
    running: set[asyncio.Task[_Judged]] = set()
    judged: list[_Judged] = []
    failed: asyncio.Task[_Judged] | None = None
    due = 0.0
    try:
        while not ctx.cancelled:
            while len(running) < concurrency and (page := await ahead.next()) is not None:
                running.add(asyncio.create_task(visit(page)))
            if not running:
                break
            done, running = await asyncio.wait(running, timeout=_LOOK, return_when=asyncio.FIRST_COMPLETED)
            judged += [task.result() for task in done if task.exception() is None]
            failed = next((task for task in done if task.exception() is not None), None)
            if failed is not None:
                break
            if len(judged) >= _STORED or (judged and time.monotonic() >= due):
                yield judged
                judged, due = [], time.monotonic() + _STORE
        # What is judged is stored before anything ends the attempt.
        if judged:
            yield judged
        ctx.raise_if_cancelled()
        if failed is not None:
            failed.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


class _Ahead:
    """The pages to check, some of them read ahead."""

    def __init__(self, target: Target, held: Held) -> None:
        self._target = target
        self._held = held
        self._read: deque[_Page] = deque()
        self._last = 0
        self._more = True

    async def next(self) -> _Page | None:
        """The next page; None where there are no more."""
        if not self._read and self._more:
            some = await self._target.transact(
                partial(store.pending, held=self._held, after=self._last, most=_READ)
            )
            self._more = len(some) == _READ
            self._read.extend(some)
        if not self._read:
            return None
        page = self._read.popleft()
        self._last = page[0]
        return page


def _log_impossible(ctx: Context, listing: Listing) -> None:
    known = ((url, finding) for url, finding in listing.entries.items() if finding is not None)
    # Sitemaps that could not be read are in the log already.
    refused = ((url, finding) for url, finding in known if finding.verdict is not Verdict.SITEMAP)
    for url, finding in islice(refused, LOGGED):
        _log(ctx, plain(url, URL_CHARS), finding, last=False)


def _log(ctx: Context, url: str, finding: Finding, *, last: bool) -> None:
    ctx.log.warn(str(finding.verdict), url=url, status=finding.status, detail=finding.detail)
    if last:
        ctx.log.warn("more pages with problems are not logged; the result and its table have them")


def _report(ctx: Context, counts: Counter[Verdict | None]) -> None:
    known = {verdict: count for verdict, count in counts.items() if verdict is not None}
    done, total = sum(known.values()), counts.total()
    problems = sum(count for verdict, count in known.items() if verdict.problem)
    skipped = sum(count for verdict, count in known.items() if verdict.skipped)
    ctx.progress(
        done,
        total=total,
        failed=problems,
        skipped=skipped,
        message=f"Checked {done:,} of {total:,} pages, {problems:,} with problems",
    )
