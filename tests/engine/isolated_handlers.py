"""Handlers that run in a child process, which imports them from here by name."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from pydantic import BaseModel

from jobdeck import Context, Discard, Park, Secret, handler


class Login(BaseModel):
    """Params with a secret."""

    token: Secret


@handler("isolated", isolation="process", max_attempts=1)
async def isolated(ctx: Context) -> dict[str, Any]:
    """Report, go on from a checkpoint, and say where it ran."""
    ctx.log.info("inside", pid=os.getpid())
    ctx.progress(3, total=4, message="three")
    await ctx.checkpoint({"page": 3})
    return {"pid": os.getpid(), "attempt": ctx.attempt, "resume": ctx.resume}


@handler("isolated_order", isolation="process", max_attempts=1)
async def isolated_order(ctx: Context) -> None:
    """Park, and say the token backwards, so that nothing takes it for one."""
    ctx.log.info("ordered", handed=ctx.token[::-1])
    raise Park("1h")


@handler("isolated_fails", isolation="process", max_attempts=1)
def isolated_fails(ctx: Context) -> None:
    """Fail as Python does."""
    raise ValueError("boom")


@handler("isolated_policed", isolation="process", max_attempts=5, on_error={ValueError: Discard})
def isolated_policed(ctx: Context) -> None:
    """Fail in a way that a policy is about."""
    raise ValueError("no use")


@handler("isolated_killed", isolation="process", max_attempts=1)
def isolated_killed(ctx: Context) -> None:
    """Die of a signal, as the kernel's memory killer would have it."""
    os.kill(os.getpid(), signal.SIGKILL)


@handler("isolated_exits", isolation="process", max_attempts=1)
def isolated_exits(ctx: Context) -> None:
    """Leave without an outcome."""
    sys.stderr.write("no more\n")
    sys.stderr.flush()
    os._exit(7)


@handler("isolated_deaf", isolation="process", cancel_grace=0.05)
def isolated_deaf(ctx: Context) -> None:
    """Hold the interpreter, look at nothing and ignore the polite signal."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ctx.log.info("deaf")
    while True:
        sum(range(10_000_000))


@handler("isolated_leaks", isolation="process")
async def isolated_leaks(ctx: Context, params: Login) -> str:
    """Say and answer a secret."""
    value = params.token.reveal()
    ctx.log.info(f"using {value}")
    print(f"printed {value}")
    return f"token {value}"


@handler("isolated_hoards", isolation="process", max_attempts=5)
async def isolated_hoards(ctx: Context) -> str:
    """Answer more than may be stored."""
    return "x" * 300_000


@handler("isolated_traces", isolation="process")
def isolated_traces(ctx: Context) -> None:
    """Say what its time was spent on."""
    ctx.trace(parse=1.0)
    ctx.trace(parse=0.5)
