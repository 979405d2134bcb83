"""Handlers for the workers of the cases; each writes what it did into the ledger."""

from __future__ import annotations

import os
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


@handler("work", max_attempts=10, backoff=Backoff(base=0.1, cap=1.0))
async def work(ctx: Context, params: Work) -> str:
    """Wait, write the effect, wait again."""
    with working(ctx, params.key):
        await ctx.sleep(params.seconds)
    await ctx.sleep(params.after)
    return params.key
