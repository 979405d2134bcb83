"""The handlers that are measured; workers take them by `handlers = ["bench.handlers"]` of the configuration."""

from __future__ import annotations

import asyncio
import random

from pydantic import BaseModel

from bench.marks import mark
from bench.payload import payload
from jobdeck import Backoff, Context, Discard, handler


class Params(BaseModel):
    """What `bench.payload` makes."""

    user_id: int
    email: str
    template: str
    language: str
    sent_ns: int


class WaitParams(Params):
    """A handler that waits for something else, as most do."""

    wait_ms: float


class ReportParams(Params):
    """A handler that reports."""

    reports: int


class ParentParams(Params):
    """A handler that makes runs."""

    gaps_s: list[float]


@handler("bench_noop", max_attempts=1)
async def noop(ctx: Context, params: Params) -> None:
    """End at once."""
    mark(params.sent_ns)


@handler("bench_wait", max_attempts=1)
async def wait(ctx: Context, params: WaitParams) -> None:
    """End after a while."""
    mark(params.sent_ns)
    await asyncio.sleep(params.wait_ms / 1000)


@handler("bench_report", max_attempts=1)
async def report(ctx: Context, params: ReportParams) -> None:
    """As many progress reports as log lines."""
    mark(params.sent_ns)
    for number in range(1, params.reports + 1):
        ctx.progress(processed=number, total=params.reports, message=f"page {number}")
        ctx.log.info("fetched a page", page=number)


@handler("bench_parent", max_attempts=1)
async def parent(ctx: Context, params: ParentParams) -> None:
    """Make runs one by one, each some time after the one before."""
    for gap in random.sample(params.gaps_s, len(params.gaps_s)):
        await ctx.sleep(gap)
        await ctx.enqueue("bench_noop", payload())


@handler("bench_discard")
async def discard(ctx: Context, params: Params) -> None:
    """Fail by decision."""
    mark(params.sent_ns)
    raise Discard("the user is gone")


@handler("bench_error", max_attempts=2, backoff=Backoff(base=0.0))
async def error(ctx: Context, params: Params) -> None:
    """Fail until no attempt is left."""
    mark(params.sent_ns)
    raise ConnectionError("HTTP 503 from the source")
