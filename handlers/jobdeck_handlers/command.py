"""`command`: runs a program or a shell line; its output is the run's log, its exit code decides.

A line `::progress 40/200 message` (or `::progress 40`, `::progress 40/200`) on either stream sets the
progress and is not logged. The program and everything it starts end with the run, daemons included.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from jobdeck import Context, Duration, Secret, SupervisedProcess, handler

# What programs need to work at all. Nothing else of the worker's environment reaches them: it holds secrets.
_INHERITED: Final = ("HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER")
_INHERITED_PREFIX: Final = "LC_"
_PROGRESS: Final = re.compile(r"^::progress\s+(\d{1,15})(?:/(\d{1,15}))?(?:\s+(.*?))?\s*$")
# `ctx.sleep` wakes at a cancel; without a timeout its length does not matter.
_LONG: Final = timedelta(days=1)


def _no_bad_reference(value: Secret | str) -> Secret | str:
    if isinstance(value, str) and value.startswith("secret://"):
        raise ValueError("a secret is referred to as secret://NAME, with letters, digits and '_' in its name")
    return value


def _variable(name: str) -> str:
    if not name or "=" in name:
        raise ValueError("the name of a variable is not empty and has no '='")
    return name


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("a timeout is longer than 0s")
    return value


def _short(value: timedelta) -> timedelta:
    if value > timedelta(minutes=5):
        raise ValueError("grace is at most 5m")
    return value


def _no_argument(value: str) -> str:
    if Secret.is_reference(value):
        raise ValueError("every user of the machine can read arguments; give a secret by env or stdin")
    return value


_Value = Annotated[Secret | str, Field(union_mode="left_to_right"), AfterValidator(_no_bad_reference)]


class CommandParams(BaseModel, extra="forbid"):
    """Params of `command`: exactly one of `argv` and `shell`."""

    argv: list[Annotated[str, BeforeValidator(_no_argument)]] | None = Field(
        None, min_length=1, description="Program and arguments; no shell reads them."
    )
    shell: Annotated[str, BeforeValidator(_no_argument)] | None = Field(
        None, min_length=1, description="A line for /bin/sh, instead of argv."
    )
    cwd: str | None = Field(None, min_length=1, description="Folder to run in; default the worker's own.")
    env: dict[Annotated[str, AfterValidator(_variable)], _Value] = Field(
        default_factory=dict, description="Variables on top of the minimal ones; values may be secret://NAME."
    )
    stdin: str | None = Field(None, description="Text the program reads, or secret://NAME; default nothing.")
    timeout: Annotated[Duration, AfterValidator(_positive)] | None = Field(
        None, description="End it after this time, as an error."
    )
    grace: Annotated[Duration, AfterValidator(_short)] = Field(
        timedelta(seconds=5), description="Between SIGTERM and SIGKILL, at a cancel or timeout; at most 5m."
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.argv is None) == (self.shell is None):
            raise ValueError("give exactly one of argv and shell")
        return self


class CommandFailed(Exception):
    """The program did not start, or did not end with exit code 0."""


# The program has its own grace (at most 5 min) between SIGTERM and SIGKILL: the worker waits for that.
@handler("command", title="Command", category="system", scope="project", cancel_grace="310s")
async def command(ctx: Context, params: CommandParams) -> dict[str, Any]:
    """Run a program; its output becomes the log, exit code 0 means completed."""
    ctx.raise_if_cancelled()
    argv = params.argv or ["/bin/sh", "-c", params.shell or ""]
    stdin = None if params.stdin is None else params.stdin.encode()
    process = SupervisedProcess(argv, env=_environment(ctx, params), cwd=params.cwd, stdin=stdin)
    relay = _Relay(ctx)
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(process)
        except OSError as error:
            raise CommandFailed(f"cannot start: {error}") from None
        due = await stack.enter_async_context(_stopped_when_due(ctx, params, process))
        async for line in process.lines():
            relay.take(line.stream, line.text)
        ended = await process.wait()
    if due.done() and not due.cancelled():
        due.result()
        raise TimeoutError(f"not finished within its timeout; {ended.describe()}")
    if ended.leftover:
        ctx.log.warn("processes of the command could not be killed", count=ended.leftover)
    if ended.returncode != 0:
        raise CommandFailed(": ".join(filter(None, (ended.describe(), relay.last_line))))
    return {"exit_code": 0, "duration_s": round(ended.duration, 3), **relay.counts()}


@asynccontextmanager
async def _stopped_when_due(
    ctx: Context, params: CommandParams, process: SupervisedProcess
) -> AsyncIterator[asyncio.Task[None]]:
    """Terminate `process` at a cancel (then the task ends with Cancelled) or at the timeout (with None)."""

    async def stop_when_due() -> None:
        try:
            await _timeout(ctx, params.timeout)
        finally:
            process.terminate(params.grace.total_seconds())

    task = asyncio.create_task(stop_when_due())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _timeout(ctx: Context, timeout: timedelta | None) -> None:
    while timeout is None:
        await ctx.sleep(_LONG)
    await ctx.sleep(timeout)


def _environment(ctx: Context, params: CommandParams) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if k in _INHERITED or k.startswith(_INHERITED_PREFIX)}
    given = {k: v.reveal() if isinstance(v, Secret) else v for k, v in params.env.items()}
    run = {
        "JOBDECK_RUN_ID": str(ctx.run_id),
        "JOBDECK_ATTEMPT": str(ctx.attempt),
        "JOBDECK_TEAM": ctx.team,
        "JOBDECK_PROJECT": ctx.project or "",
    }
    return inherited | given | run


class _Relay:
    """Turns lines of output into log entries and progress."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._lines: Counter[str] = Counter()
        self._last: dict[str, str] = {}

    @property
    def last_line(self) -> str:
        """The last line that says something: of stderr, else of stdout."""
        return self._last.get("stderr") or self._last.get("stdout") or ""

    def counts(self) -> dict[str, int]:
        return {f"{stream}_lines": self._lines[stream] for stream in ("stdout", "stderr")}

    def take(self, stream: str, text: str) -> None:
        found = _PROGRESS.match(text) if text.startswith("::progress") else None
        if found is not None:
            total = None if found[2] is None else int(found[2])
            self._ctx.progress(int(found[1]), total=total, message=found[3] or None)
            return
        self._lines[stream] += 1
        if text.strip():
            self._last[stream] = text.strip()
        self._ctx.log.write("warn" if stream == "stderr" else "info", text, {"stream": stream})
