"""Why a run does not run: everything that keeps it from being taken, in the order in which it has to give way.

The conditions are those of the claim, asked one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, and_, func, or_, select

from jobdeck.ids import show_id
from jobdeck.model import Reason, TeamScope
from jobdeck.states import TERMINAL, Status
from jobdeck.store.control.reasons import limited, paused, span
from jobdeck.store.fleet import live_work
from jobdeck.store.lanes import ready
from jobdeck.store.schema import leases, run_waits, runs
from jobdeck.store.waiting import Turn

_COUNTED: Final = 1_000
"""Runs ahead that are counted; more is told as more."""
_FACTS: Final = tuple(
    runs.c[name]
    for name in ("id", "team_id", "status", "job_type", "queue", "priority", "due_at", "attempt", "blocked",
                 "gate", "gated", "concurrency_key", "expires_at", "error", "cancel_requested_at")
)  # fmt: skip


def why(conn: Connection, now: int, scope: TeamScope, run_id: UUID) -> list[Reason] | None:
    """What the run waits for; None where the team has no such run."""
    query = select(*_FACTS).where(runs.c.team_id == scope.team_id, runs.c.id == run_id)
    row = conn.execute(query).one_or_none()
    return None if row is None else list(_reasons(conn, now, row))


def _reasons(conn: Connection, now: int, row: Any) -> Iterator[Reason]:
    status, shown = Status(row.status), show_id("run", row.id)
    if status in TERMINAL:
        again = f"jobdeck runs {'rerun' if status is Status.COMPLETED else 'retry'} {shown}"
        yield Reason("ended", f"it has ended as {status}", again)
    elif status is Status.RUNNING:
        yield _running(conn, now, row, shown)
    else:
        yield from _waiting(conn, now, row, shown)


def _running(conn: Connection, now: int, row: Any, shown: str) -> Reason:
    lease = conn.execute(select(leases).where(leases.c.run_id == row.id)).one_or_none()
    asked = " and has been asked to stop" if row.cancel_requested_at is not None else ""
    if lease is not None and lease.worker_id is None:
        left = span(lease.lease_until - now)
        if lease.parked:
            words, command = "its handler has parked it, for another system to end it", "runs finish"
        else:
            words, command = f"{lease.worker} has claimed it, and has to ack it", "ack"
        return Reason(
            "token", f"{words} in {left}{asked}", f"jobdeck {command} {shown} completed --token TOKEN"
        )
    worker = None if lease is None else lease.worker
    return Reason("running", f"it runs on {worker}{asked}", f"jobdeck runs logs {shown} --follow")


def _waiting(conn: Connection, now: int, row: Any, shown: str) -> Iterator[Reason]:
    found = False
    holding = (
        *paused(conn, now, row.id),
        *_approval(row, shown),
        *_others(conn, row),
        *_time(row, now, shown),
    )
    for reason in (*holding, *limited(conn, now, row), *_expiry(row, now)):
        found = found or reason.kind != "expires"
        yield reason
    live = live_work(conn, now, row.team_id)
    if row.queue in live.pulled:
        words = f"a program has to claim it from the pull queue {row.queue}"
        yield Reason("pull", words, f"jobdeck claim {row.queue}")
        return
    refusal = live.refusal(row.job_type, row.queue)
    if refusal is not None:
        words, _, helps = refusal.partition("; ")
        yield Reason("worker", words, helps.rpartition(": ")[2] or None)
    elif not found:
        yield _position(conn, now, row, shown)


def _approval(row: Any, shown: str) -> Iterator[Reason]:
    if row.status == Status.AWAITING_APPROVAL:
        yield Reason("approval", "somebody has to approve it", f"jobdeck runs approve {shown}")


def _others(conn: Connection, row: Any) -> Iterator[Reason]:
    if not row.blocked:
        return
    query = (
        select(run_waits.c.on_id, run_waits.c.condition, runs.c.status, runs.c.job_type)
        .join(runs, runs.c.id == run_waits.c.on_id)
        .where(run_waits.c.run_id == row.id, run_waits.c.open)
        .order_by(run_waits.c.on_id)
    )
    waits = conn.execute(query).all()
    # One that was put aside for its key waits for a place, not for another run.
    if not waits and not row.gated:
        words = "what it waits for is unknown: somebody has changed it in the database"
        yield Reason("run", words, f"jobdeck runs cancel {show_id('run', row.id)}")
    for wait in waits:
        other = show_id("run", wait.on_id)
        of_other = f"{other} ({wait.job_type}, {wait.status})"
        if wait.condition == Turn.KEY:
            yield Reason("key", f"{of_other} holds its key", f"jobdeck runs cancel {other}")
        else:
            yield Reason("run", f"{of_other} has to be {wait.condition}", f"jobdeck why {other}")


def _time(row: Any, now: int, shown: str) -> Iterator[Reason]:
    if row.due_at <= now:
        return
    after = f", after: {row.error}" if row.attempt and row.error else ""
    yield Reason(
        "due", f"it is due in {span(row.due_at - now)}{after}", f"jobdeck runs update {shown} --delay 0s"
    )


def _expiry(row: Any, now: int) -> Iterator[Reason]:
    if row.expires_at is None:
        return
    left = row.expires_at - now
    words = f"it expires in {span(left)} if it has not begun" if left > 0 else "its time to live is over"
    yield Reason("expires", words, None)


def _position(conn: Connection, now: int, row: Any, shown: str) -> Reason:
    """How many runs of the team a worker that serves it would take first."""
    before = or_(
        runs.c.priority < row.priority,
        and_(runs.c.priority == row.priority, runs.c.due_at < row.due_at),
        and_(runs.c.priority == row.priority, runs.c.due_at == row.due_at, runs.c.id < row.id),
    )
    ahead = (
        select(runs.c.id)
        .where(runs.c.team_id == row.team_id, *ready(runs), runs.c.due_at <= now, before)
        .limit(_COUNTED + 1)
        .subquery()
    )
    count = conn.execute(select(func.count()).select_from(ahead)).scalar_one()
    number = f"more than {_COUNTED:,}" if count > _COUNTED else f"{count:,}"
    words = f"{number} runs of the team go before it, at priority {row.priority}"
    return Reason("position", words, f"jobdeck runs update {shown} --priority 1" if count else None)
