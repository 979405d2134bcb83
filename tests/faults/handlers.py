"""Handlers for the workers of the cases; each writes what it did into the ledger."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import BaseModel

from jobdeck import Backoff, Context, handler
from tests.faults.killpoints import passing
from tests.faults.ledger import Entry, Kind, ledger_of_environment


class Work(BaseModel):
    """What most handlers take."""

    key: str
    """What the enqueuer calls this run."""
    seconds: float = 0.0
    """How long the work takes before its effect."""
    after: float = 0.0
    """How long the handler goes on after its effect."""


def effect(ctx: Context, key: str, start: float) -> None:
    """Write that the work of this attempt is done."""
    ledger_of_environment().write(
        Entry(
            Kind.EFFECT,
            pid=os.getpid(),
            key=key,
            run=ctx.run_id.hex,
            attempt=ctx.attempt,
            fence=ctx.fence,
            start=start,
            end=time.monotonic(),
        )
    )


@contextmanager
def working(ctx: Context, key: str) -> Iterator[None]:
    """A handler's work with the two kill points around it; its effect is written at the end of the block."""
    start = time.monotonic()
    passing("handler.start")
    yield
    effect(ctx, key, start)
    passing("handler.end")


class Pattern(BaseModel):
    """A match that takes exponential time."""

    key: str
    chars: int


@handler("work", max_attempts=10, backoff=Backoff(base=0.1, cap=1.0))
async def work(ctx: Context, params: Work) -> str:
    """Wait, write the effect, wait again."""
    with working(ctx, params.key):
        await ctx.sleep(params.seconds)
    await ctx.sleep(params.after)
    return params.key


@handler("single", single_flight=True)
async def single(ctx: Context, params: Work) -> str:
    """Of its type, one run at a time in a project."""
    return str(await work(ctx, params))


@handler("breaks", max_attempts=2, backoff=Backoff(base=0.01, cap=0.02))
async def breaks(ctx: Context, params: Work) -> None:
    """Fail every time."""
    raise ValueError(f"{params.key} cannot be done")


@handler("blocks", max_attempts=10)
async def blocks(ctx: Context, params: Work) -> None:
    """Block the loop of all handlers."""
    with working(ctx, params.key):
        time.sleep(params.seconds)  # noqa: ASYNC251  the fault itself


@handler("matches", max_attempts=10)
async def matches(ctx: Context, params: Pattern) -> None:
    """Hold the interpreter of the worker."""
    with working(ctx, params.key):
        catastrophe(params.chars)


@handler("matches_apart", max_attempts=10, isolation="process")
async def matches_apart(ctx: Context, params: Pattern) -> None:
    """Hold an interpreter of its own."""
    with working(ctx, params.key):
        catastrophe(params.chars)


def catastrophe(chars: int) -> None:
    """A match whose time doubles with every character, and which holds the interpreter all the while."""
    assert re.match(r"(a+)+$", "a" * chars + "b") is None


@handler("ticks")
async def ticks(ctx: Context, params: Work) -> float:
    """Wake a hundred times a second for `seconds`; the longest delay of a wake-up is the result."""
    longest = 0.0
    with working(ctx, params.key):
        over = time.monotonic() + params.seconds
        while (before := time.monotonic()) < over:
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - before - 0.01)
    return longest


@handler("ignores", cancel_grace="60s")
async def ignores(ctx: Context, params: Work) -> str:
    """Never look whether it should stop; there is time enough to end by itself."""
    with working(ctx, params.key):
        await asyncio.sleep(params.seconds)
    return params.key


@handler("deaf", cancel_grace="500ms", max_attempts=1)
async def deaf(ctx: Context, params: Work) -> str:
    """Swallow every cancellation and go on for `seconds`."""
    with working(ctx, params.key):
        over = time.monotonic() + params.seconds
        while time.monotonic() < over:
            try:
                await asyncio.sleep(0.1)
            except asyncio.CancelledError:
                continue
    return params.key


@handler("old_params", max_attempts=3)
async def old_params(ctx: Context, params: Work) -> str:
    """As `work`; a case stores runs whose params an older version of it took."""
    return str(await work(ctx, params))


class Flood(BaseModel):
    """How much to say."""

    key: str
    lines: int = 0
    """Short lines of log."""
    line_bytes: int = 0
    """The size of one more line."""
    progress: int = 0
    """Calls of progress."""


@handler("floods")
async def floods(ctx: Context, params: Flood) -> None:
    """Say much more than may be stored, as fast as it goes."""
    with working(ctx, params.key):
        for number in range(params.lines):
            ctx.log.info(
                "a line of a flood, as long as lines of a log are on average, and like all the others",
                number=number,
            )
            if number % 1_000 == 0:
                await asyncio.sleep(0)
        if params.line_bytes:
            ctx.log.info("x" * params.line_bytes)
        for number in range(params.progress):
            ctx.progress(number, total=params.progress, message=f"step {number}")
            if number % 100 == 0:
                await asyncio.sleep(0.01)


@handler("holds", max_attempts=10, backoff=Backoff(base=0.1, cap=1.0))
async def holds(ctx: Context, params: Work) -> int:
    """As `work` for the first attempt; a later one is quick."""
    with working(ctx, params.key):
        if ctx.attempt == 1:
            await ctx.sleep(params.seconds)
    return ctx.attempt


@handler("chats", max_attempts=10)
async def chats(ctx: Context, params: Work) -> int:
    """Log and report progress all the time, save where it is, and look at its lease."""
    spoken = 0
    with working(ctx, params.key):
        over = time.monotonic() + params.seconds
        while time.monotonic() < over:
            spoken += 1
            ctx.log.info("line", number=spoken)
            ctx.progress(spoken, message=f"line {spoken}")
            await ctx.checkpoint({"spoken": spoken})
            await ctx.verify_lease()
            await ctx.sleep(0.2)
    return spoken


@handler("speaks", max_attempts=10)
async def speaks(ctx: Context, params: Work) -> None:
    """Say one line before the effect and one after it, with time between them for a report."""
    ctx.log.info("first")
    ctx.progress(1, total=2)
    await ctx.sleep(0.3)
    with working(ctx, params.key):
        await ctx.sleep(params.seconds)
    ctx.log.info("second")
