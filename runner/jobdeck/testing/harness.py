"""Runs one attempt of a handler with the pipeline, context and limits a worker uses; what it says is collected."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from jobdeck import jsonio, limits
from jobdeck.clock import from_us
from jobdeck.context import CancelReason
from jobdeck.engine.capture import capturing
from jobdeck.engine.mailbox import Mailbox
from jobdeck.engine.perform import perform
from jobdeck.engine.run_context import RunContext, Surroundings
from jobdeck.errors import StaleLease
from jobdeck.ids import new_id
from jobdeck.model import Progress
from jobdeck.net import AddressPolicy, GuardedClient
from jobdeck.plugins import Plugin
from jobdeck.spec import HandlerSpec
from jobdeck.store.claim import ClaimedRun
from jobdeck.verdict import Ending


@dataclass(frozen=True, slots=True)
class LoggedLine:
    """One log entry."""

    level: str
    message: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ChildRun:
    """A run that the handler enqueued."""

    id: UUID
    job_type: str
    params: Mapping[str, Any]
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class HandlerResult:
    """How the attempt ended and what it said. `outcome` is one of the attempt outcomes, as text."""

    outcome: str
    result: Any
    error: str | None
    traceback: str | None
    retry_in: float | None
    """Seconds, where the handler asked for them."""
    final: bool
    """Whether the handler refused further attempts."""
    progress: Progress
    logs: tuple[LoggedLine, ...]
    checkpoints: tuple[Any, ...]
    children: tuple[ChildRun, ...]
    token: str = ""
    """What `ctx.token` was: by it the run would be ended, where the outcome is `parked`."""
    parked_for: float | None = None
    """Seconds, where the handler has parked its run for a time."""
    parked_until: datetime | None = None
    """Where it has parked it until a time."""


@dataclass(slots=True)
class _Recorder:
    """The worker's side of the context."""

    lease_lost: bool
    checkpoints: list[Any] = field(default_factory=list)
    children: list[ChildRun] = field(default_factory=list)

    async def save_checkpoint(self, run: ClaimedRun, state: str) -> None:
        await self.verify_lease(run)
        self.checkpoints.append(json.loads(state))

    async def verify_lease(self, run: ClaimedRun) -> None:
        if self.lease_lost:
            raise StaleLease

    async def enqueue_child(
        self, run: ClaimedRun, job_type: str, params: Mapping[str, Any], options: Mapping[str, Any]
    ) -> UUID:
        child = ChildRun(new_id(), job_type, dict(params), dict(options))
        self.children.append(child)
        return child.id


async def run_handler(
    spec: HandlerSpec,
    params: Mapping[str, Any] | None = None,
    *,
    attempt: int = 1,
    resume: Any = None,
    team: str = "default",
    project: str | None = "default",
    settings: Mapping[str, Any] | None = None,
    allow: Sequence[str] = (),
    cancel_after: float | None = None,
    cancel_reason: CancelReason = CancelReason.USER,
    lease_lost: bool = False,
    debug_mode: bool = False,
) -> HandlerResult:
    """Run one attempt to its end.

    `allow` opens private addresses for `ctx.http`. `cancel_after` asks the handler to stop after so many seconds
    (0: before it begins). `lease_lost=True` refuses checkpoints as a database does once another worker has the run.
    """
    # An isolated handler makes its own client, from what its settings allow.
    given = {"http_allow": list(allow)} | dict(settings or {})
    run = _claimed(spec, params or {}, attempt, resume, team, project, debug_mode)
    mailbox, recorder = Mailbox(run), _Recorder(lease_lost)
    loop = asyncio.get_running_loop()
    async with GuardedClient(AddressPolicy(allow)) as http:
        ctx = RunContext(run, mailbox, Surroundings(loop, loop, recorder, http), lambda _run: given)
        if cancel_after is not None:
            loop.call_later(cancel_after, ctx.request_stop, cancel_reason)
            if cancel_after == 0:
                ctx.request_stop(cancel_reason)
        with capturing():
            ending = await perform(_plugin(spec), ctx, run)
    report = mailbox.take()
    return HandlerResult(
        outcome=ending.outcome.value,
        result=None if ending.result is None else json.loads(ending.result),
        error=ending.error,
        traceback=ending.traceback,
        retry_in=None if ending.retry_in_us is None else ending.retry_in_us / 1_000_000,
        final=ending.final,
        progress=(report.progress if report else None) or Progress(),
        logs=tuple(
            LoggedLine(line.level, line.message, json.loads(line.fields or "{}"))
            for line in (report.lines if report else ())
        ),
        checkpoints=tuple(recorder.checkpoints),
        children=tuple(recorder.children),
        token=ctx.token,
        **_parked(ending),
    )


def _parked(ending: Ending) -> dict[str, Any]:
    parking = ending.parking
    if parking is None:
        return {}
    if parking.until is not None:
        return {"parked_until": from_us(parking.until)}
    return {"parked_for": parking.wait_us / 1_000_000}


def run_handler_sync(
    spec: HandlerSpec, params: Mapping[str, Any] | None = None, **options: Any
) -> HandlerResult:
    """`run_handler` for tests that are not async."""
    return asyncio.run(run_handler(spec, params, **options))


def _claimed(
    spec: HandlerSpec,
    params: Mapping[str, Any],
    attempt: int,
    resume: Any,
    team: str,
    project: str | None,
    debug_mode: bool,
) -> ClaimedRun:
    return ClaimedRun(
        id=new_id(),
        fence=attempt,
        attempt=attempt,
        team_id=new_id(),
        team=team,
        project_id=new_id() if project else None,
        project=project,
        job_type=spec.job_type,
        queue=limits.DEFAULT_QUEUE,
        params=jsonio.dumps(dict(params), what="params", limit=limits.PARAMS_BYTES),
        max_attempts=spec.max_attempts,
        failures=attempt - 1,
        crash_count=0,
        timeout_s=spec.timeout.total_seconds(),
        debug_mode=debug_mode,
        log_bytes=0,
        resume=None if resume is None else json.dumps(resume),
        lease_until=0,
    )


def _plugin(spec: HandlerSpec) -> Plugin:
    return Plugin(spec, package="test", version="0", reference=spec.reference)
