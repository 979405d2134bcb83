"""What people do to a run: cancel it, retry it. Guarded by the transition table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select, update

from jobdeck.errors import AlreadyActive, Conflict, JobdeckError, NotCancellable, NotFound
from jobdeck.ids import show_id
from jobdeck.model import CancelEffect, CancelReply
from jobdeck.states import RETRYABLE, TERMINAL, WAITING, Status
from jobdeck.store.locks import Locks, lock_runs
from jobdeck.store.schema import HOLDS_FLIGHT, leases, run_events, runs
from jobdeck.store.transaction import Hint, Rank, Tx, verb


@dataclass(frozen=True, slots=True)
class Cancel:
    """Ask a run of this team to stop."""

    team_id: UUID
    run_id: UUID
    actor: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class RetryRun:
    """Put an ended run of this team back to pending, with a new epoch of failures and its history kept."""

    team_id: UUID
    run_id: UUID
    actor: str
    reason: str | None


@verb(Rank.CHANGE, Locks(lambda item: (item.run_id,), runs=True))
def cancel(tx: Tx, items: Sequence[Cancel]) -> Sequence[CancelReply | JobdeckError]:
    """Waiting runs end at once; running ones are asked to stop. NotFound, NotCancellable."""
    _lock_all(tx, items)
    return [_cancel_one(tx, item) for item in items]


def _cancel_one(tx: Tx, item: Cancel) -> CancelReply | JobdeckError:
    row = _locked_run(tx, item.team_id, item.run_id)
    if row is None:
        return NotFound(f"no run {show_id('run', item.run_id)} in this team")
    status = Status(row.status)
    if status in TERMINAL:
        return NotCancellable(f"{show_id('run', item.run_id)} has already ended as {status}", status=status)
    # The first request stays: who asked, when and why is a fact that a second key press must not rewrite.
    if row.cancel_requested_at is None:
        _request(tx, item, status, row.job_type)
    effect = CancelEffect.NOW if status in WAITING else CancelEffect.REQUESTED
    after = Status.CANCELLED if status in WAITING else status
    return CancelReply(item.run_id, after, after is Status.CANCELLED, effect)


def _request(tx: Tx, item: Cancel, status: Status, job_type: str) -> None:
    values: dict[str, Any] = {
        "cancel_requested_at": tx.now,
        "cancel_requested_by": item.actor,
        "cancel_reason": item.reason,
        "revision": runs.c.revision + 1,
    }
    if status in WAITING:
        values |= {"status": Status.CANCELLED, "finished_at": tx.now}
        tx.count(item.team_id, job_type, status, Status.CANCELLED)
    tx.conn.execute(update(runs).where(runs.c.id == item.run_id, runs.c.status == status).values(values))
    if status is Status.RUNNING:
        tx.conn.execute(
            update(leases).where(leases.c.run_id == item.run_id).values(cancel_requested_at=tx.now)
        )
        tx.hint(Hint.CANCEL)
    _record(
        tx, item.run_id, "cancelled" if status in WAITING else "cancel_requested", item.actor, item.reason
    )
    tx.hint(Hint.CHANGE)


@verb(Rank.CHANGE, Locks(lambda item: (item.run_id,), runs=True))
def retry(tx: Tx, items: Sequence[RetryRun]) -> Sequence[UUID | JobdeckError]:
    """Failed, dead, cancelled and expired runs become pending. NotFound, Conflict, AlreadyActive."""
    _lock_all(tx, items)
    return [_retry_one(tx, item) for item in items]


def _retry_one(tx: Tx, item: RetryRun) -> UUID | JobdeckError:
    row = _locked_run(tx, item.team_id, item.run_id)
    if row is None:
        return NotFound(f"no run {show_id('run', item.run_id)} in this team")
    status = Status(row.status)
    if status not in RETRYABLE:
        return Conflict(
            f"{show_id('run', item.run_id)} is {status}; only {_words(RETRYABLE)} runs can be retried"
        )
    other = _flight_holder(tx, item.team_id, row.flight_key)
    if other is not None:
        shown = show_id("run", other)
        return AlreadyActive(f"another run of this type is already active: {shown}", existing_run_id=shown)
    tx.conn.execute(
        update(runs)
        .where(runs.c.id == item.run_id, runs.c.status == status)
        .values(
            status=Status.PENDING,
            due_at=tx.now,
            started_at=None,
            finished_at=None,
            processed=0,
            total=None,
            failed=0,
            skipped=0,
            message="",
            failures=0,
            crash_count=0,
            failure_kind=None,
            error=None,
            traceback=None,
            result=None,
            cancel_requested_at=None,
            cancel_requested_by=None,
            cancel_reason=None,
            expires_at=None,
            revision=runs.c.revision + 1,
        )
    )
    tx.count(item.team_id, row.job_type, status, Status.PENDING)
    _record(tx, item.run_id, "retried", item.actor, item.reason)
    tx.hint(Hint.CHANGE | Hint.WORK)
    return item.run_id


def _lock_all(tx: Tx, items: Sequence[Cancel | RetryRun]) -> None:
    if len(items) > 1:
        lock_runs(tx.conn, tx.differences, (item.run_id for item in items))


def _locked_run(tx: Tx, team_id: UUID, run_id: UUID) -> Any:
    query = select(runs.c.status, runs.c.job_type, runs.c.cancel_requested_at, runs.c.flight_key).where(
        runs.c.team_id == team_id, runs.c.id == run_id
    )
    return tx.conn.execute(tx.differences.locked(query, by=runs.c.id)).one_or_none()


def _flight_holder(tx: Tx, team_id: UUID, flight_key: str | None) -> UUID | None:
    if flight_key is None:
        return None
    query = select(runs.c.id).where(runs.c.team_id == team_id, runs.c.flight_key == flight_key, HOLDS_FLIGHT)
    found: UUID | None = tx.conn.execute(query).scalar()
    return found


def _record(tx: Tx, run_id: UUID, kind: str, actor: str, reason: str | None) -> None:
    data = json.dumps({"reason": reason}, ensure_ascii=False) if reason else None
    tx.conn.execute(
        insert(run_events),
        {"run_id": run_id, "at": tx.now, "kind": kind, "actor": actor, "fence": 0, "data": data},
    )


def _words(statuses: frozenset[Status]) -> str:
    return ", ".join(sorted(statuses))
