"""Handlers that the tests run in a child process; imported by name, as a plugin's are."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from jobdeck import Context, Discard, Retry, Secret, Snooze, StaleLease, handler
from jobdeck.errors import AlreadyActive


class Words(BaseModel, extra="forbid"):
    """Params of the probes that take one word."""

    word: str = ""


class Keys(BaseModel, extra="forbid"):
    """Params with a secret."""

    key: Secret


@handler("facts", isolation="process")
async def facts(ctx: Context, params: Words) -> dict[str, Any]:
    """Give back all that the context says of the run."""
    return {
        "word": params.word,
        "run_id": str(ctx.run_id),
        "team": ctx.team,
        "project": ctx.project,
        "job_type": ctx.job_type,
        "attempt": ctx.attempt,
        "fence": ctx.fence,
        "resume": ctx.resume,
        "settings": dict(ctx.settings),
        "cancelled": ctx.cancelled,
        "pid": os.getpid(),
        "database": [name for name in os.environ if name.startswith("JOBDECK_DATABASE")],
    }


@handler("report", isolation="process")
async def report(ctx: Context) -> None:
    """Use every way to report."""
    ctx.log.info("hello", page=3, nested={"a": [1]}, other=object)
    ctx.log.error("trouble")
    logging.getLogger("lib").warning("from %s", "logging")
    print("printed")
    sys.stderr.write("complained\n")
    ctx.progress(3, total=9, failed=1, skipped=2, message="three")
    await ctx.checkpoint({"page": 3})
    await ctx.verify_lease()
    child = await ctx.enqueue(
        "other",
        {"n": 1},
        delay=timedelta(seconds=1.5),
        at=datetime(2026, 1, 2, tzinfo=UTC),
        after=UUID(int=1),
        queue="q",
    )
    ctx.log.info("enqueued", run=child)


@handler("report_sync", isolation="process")
def report_sync(ctx: Context, params: Words) -> str:
    """The same from a sync handler."""
    ctx.checkpoint_sync({"word": params.word})
    ctx.sleep_sync(0.001)
    return str(ctx.enqueue_sync("other"))


@handler("steer", isolation="process")
async def steer(ctx: Context, params: Words) -> None:
    """Raise what the word says."""
    match params.word:
        case "retry":
            raise Retry("not yet", after="90s")
        case "retry_plain":
            raise Retry("again")
        case "discard":
            raise Discard("never")
        case "snooze":
            raise Snooze("5m", "later")
        case "stale":
            raise StaleLease("lost it")
        case "active":
            raise AlreadyActive("one runs", existing_run_id="run_1")
        case "exit":
            sys.exit("enough")
        case _:
            raise ZeroDivisionError("no such word")


@handler("checkpoint_twice", isolation="process")
async def checkpoint_twice(ctx: Context) -> str:
    """A refused checkpoint is an error of its own class here."""
    try:
        await ctx.checkpoint("one")
    except StaleLease as error:
        return f"refused: {error}"
    return "accepted"


@handler("too_large", isolation="process")
async def too_large(ctx: Context) -> str:
    """A result beyond the limit."""
    return "x" * 10_000_000


@handler("not_json", isolation="process")
async def not_json(ctx: Context) -> Any:
    """A result that JSON cannot hold."""
    return object()


@handler("model", isolation="process")
async def model(ctx: Context) -> Any:
    """A result that is not plain yet."""
    return Words(word="x").model_dump() | {"at": (datetime(2026, 1, 2, tzinfo=UTC),)}


@handler("flood", isolation="process")
async def flood(ctx: Context) -> str:
    """More messages than fit in any buffer."""
    for number in range(20_000):
        ctx.log.info("line", number=number)
    ctx.log.info("x" * 1_000_000, field="y" * 20_000_000)
    return "done"


@handler("die", isolation="process")
async def die(ctx: Context, params: Words) -> None:
    """End without an outcome."""
    match params.word:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "segfault":
            ctypes.string_at(0)
        case _:
            sys.stderr.write("giving up\n")
            os._exit(3)


@handler("wait", isolation="process")
async def wait(ctx: Context) -> None:
    """Wait for a cancel the polite way."""
    ctx.log.info("ready")
    await ctx.sleep("1h")


@handler("wait_sync", isolation="process")
def wait_sync(ctx: Context) -> None:
    """The same in a sync handler."""
    ctx.log.info("ready")
    ctx.sleep_sync("1h")


@handler("poll", isolation="process")
def poll(ctx: Context) -> str:
    """Look for a cancel and end with a result."""
    ctx.log.info("ready")
    while not ctx.cancelled:
        time.sleep(0.01)
    return f"stopped: {ctx.cancel_reason}"


@handler("clean_up", isolation="process")
async def clean_up(ctx: Context) -> None:
    """Take no notice of the flag, and clean up when ended."""
    ctx.log.info("ready")
    try:
        await asyncio.sleep(600)
    finally:
        print("cleaned up")


@handler("clean_up_sync", isolation="process")
def clean_up_sync(ctx: Context) -> None:
    """The same in a sync handler."""
    ctx.log.info("ready")
    try:
        time.sleep(600)
    finally:
        print("cleaned up")


@handler("family", isolation="process")
def family(ctx: Context) -> None:
    """Start a process that starts another, both out of reach of the group, and wait."""
    subprocess.run(["setsid", "--fork", "sleep", "600"], check=True)
    ctx.log.info("ready")
    time.sleep(600)


@handler("hog", isolation="process")
def hog(ctx: Context) -> None:
    """Hold the interpreter's lock for ages: a regular expression that backtracks without end."""
    ctx.log.info("ready")
    re.match(r"(a+)+$", "a" * 64 + "b")


@handler("linger", isolation="process")
def linger(ctx: Context) -> str:
    """Have a result, and a thread that keeps the process."""
    threading.Thread(target=time.sleep, args=(600,)).start()
    return "done"


@handler("spill", isolation="process")
async def spill(ctx: Context, params: Keys) -> None:
    """Tell a secret in every way there is."""
    key = params.key.reveal()
    print(f"printed {key}")
    ctx.log.info(f"logged {key}", field=key, nested=[key])
    ctx.progress(message=f"progress {key}")
    raise ValueError(f"raised {key}")


@handler("ask", isolation="process")
async def ask(ctx: Context, params: Words) -> dict[str, Any]:
    """Get secrets as a plain param and by a name that the params do not hold."""
    pin = Secret("secret://PIN").reveal()
    print(f"printed {params.word} and {pin}")
    missing = "none"
    try:
        Secret("secret://MISSING").reveal()
    except LookupError as error:
        missing = f"{type(error).__name__}: {error}"
    inherited = [name for name in os.environ if name.startswith("JOBDECK_SECRET")]
    return {"length": len(params.word), "pin": int(pin), "missing": missing, "inherited": inherited}


@handler("fetch", isolation="process")
async def fetch(ctx: Context, params: Words) -> int:
    """Ask a server through the guarded client."""
    return (await ctx.http.request("GET", params.word)).status


NOT_A_HANDLER = "text"
