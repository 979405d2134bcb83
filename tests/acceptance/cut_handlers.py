"""Handlers whose work leaves a trace outside jobdeck, and that end when a file appears."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel

from jobdeck import Context, handler


class Params(BaseModel):
    """Where to keep the ledger, and the file to wait for: in the first attempt, and in later ones."""

    ledger: str
    until: str = ""
    later_until: str = ""


@handler("trace")
async def trace(ctx: Context, params: Params) -> int:
    """Note the start, wait, note the end; the result is the id of the process that did it."""
    _note(params.ledger, ctx, "start")
    while _is_awaited(params.until if ctx.attempt == 1 else params.later_until):
        await ctx.sleep(0.05)
    ctx.log.info("done", pid=os.getpid())
    _note(params.ledger, ctx, "end")
    return os.getpid()


def _is_awaited(path: str) -> bool:
    return bool(path) and not Path(path).exists()


def _note(ledger: str, ctx: Context, what: str) -> None:
    line = f"{ctx.run_id} {ctx.fence} {os.getpid()} {what}\n"
    descriptor = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
