"""The decision on runs that need one: approve, reject. What was approved is what runs (`jobdeck.approval`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select, update

from jobdeck.approval import request_hash
from jobdeck.errors import Conflict, Forbidden, JobdeckError
from jobdeck.ids import show_id
from jobdeck.people import Permission
from jobdeck.states import FailureKind, Status
from jobdeck.store.changes import unknown_run
from jobdeck.store.events import Event, record
from jobdeck.store.locks import Locks, lock_runs
from jobdeck.store.members import lacks
from jobdeck.store.schema import run_events, runs
from jobdeck.store.transaction import Hint, Rank, Tx, verb
from jobdeck.store.waiting import FACTS, End, end_waiting


@dataclass(frozen=True, slots=True)
class Decide:
    """A decision of `actor` on a run of this team."""

    team_id: UUID
    run_id: UUID
    actor: str
    reason: str | None
    seen: str | None = None
    """The digest of what the actor was shown; None: whatever it is now."""
    own: bool = False
    """Whether the one who asked for a run may decide on it."""


@verb(Rank.CHANGE, Locks(lambda item: (item.run_id,), runs=True))
def approve(tx: Tx, items: Sequence[Decide]) -> Sequence[UUID | JobdeckError]:
    """Let runs go on. NotFound, Forbidden for one's own, Conflict where there is nothing (more) to decide."""
    return [_decide(tx, item, approved=True) for item in _locked(tx, items)]


@verb(Rank.CHANGE, Locks(lambda item: (item.run_id,), runs=True))
def reject(tx: Tx, items: Sequence[Decide]) -> Sequence[UUID | JobdeckError]:
    """End runs without running them. Errors as those of `approve`."""
    return [_decide(tx, item, approved=False) for item in _locked(tx, items)]


def _locked(tx: Tx, items: Sequence[Decide]) -> Sequence[Decide]:
    if len(items) > 1:
        lock_runs(tx.conn, tx.differences, (item.run_id for item in items))
    return items


def _decide(tx: Tx, item: Decide, *, approved: bool) -> UUID | JobdeckError:
    query = select(*FACTS, runs.c.triggered_by, runs.c.expires_at, runs.c.job_version, runs.c.params).where(
        runs.c.team_id == item.team_id, runs.c.id == item.run_id
    )
    row = tx.conn.execute(tx.differences.locked(query, by=runs.c.id)).one_or_none()
    if row is None:
        return unknown_run(item.run_id)
    seen = request_hash(row.job_type, row.job_version, row.params)
    problem = (
        lacks(tx, item.team_id, item.actor, Permission.JOBS_APPROVE)
        or _problem(row, item, seen, tx.now)
        or _amender(tx, item)
    )
    if problem is not None:
        return problem
    after = Status.PENDING if approved else Status.CANCELLED
    tx.tell(item, show_id("run", item.run_id), {"status": row.status}, {"status": after, "request": seen})
    if approved:
        _approve(tx, item, row, seen)
    else:
        words = f"rejected by {item.actor}: {item.reason}"
        end = End(Status.CANCELLED, "rejected", item.actor, item.reason, FailureKind.REJECTED, words)
        end_waiting(tx, [(row, end)])
    return item.run_id


def _problem(row: Any, item: Decide, seen: str, now: int) -> JobdeckError | None:
    shown = show_id("run", item.run_id)
    if row.status != Status.AWAITING_APPROVAL:
        return Conflict(f"{shown} is {row.status}; only a run that awaits approval is approved or rejected")
    if row.expires_at is not None and row.expires_at <= now:
        return Conflict(f"the time to live of {shown} is over; trigger it again")
    if row.triggered_by == f"manual:{item.actor}" and not item.own:
        return Forbidden(
            f"{shown} was triggered by you, and somebody else has to decide on it; "
            "to allow this, set own = true under [approvals]"
        )
    if item.seen is not None and item.seen != seen:
        return Conflict(f"{shown} has been changed since it was shown; look at it again")
    return None


def _amender(tx: Tx, item: Decide) -> Forbidden | None:
    """Who has changed a run last has asked for what it is now."""
    query = select(run_events.c.actor).where(
        run_events.c.run_id == item.run_id, run_events.c.kind == "amended"
    )
    last = tx.conn.execute(query.order_by(run_events.c.id.desc()).limit(1)).scalar()
    if last != item.actor or item.own:
        return None
    return Forbidden(
        f"{show_id('run', item.run_id)} was changed by you, and somebody else has to decide on it; "
        "to allow this, set own = true under [approvals]"
    )


def _approve(tx: Tx, item: Decide, row: Any, seen: str) -> None:
    tx.conn.execute(
        update(runs)
        .where(runs.c.id == item.run_id, runs.c.status == Status.AWAITING_APPROVAL)
        .values(
            status=Status.PENDING,
            approved_at=tx.now,
            approved_by=item.actor,
            approved_hash=seen,
            revision=runs.c.revision + 1,
        )
    )
    tx.count(row.team_id, row.job_type, Status.AWAITING_APPROVAL, Status.PENDING)
    record(tx, [Event(item.run_id, "approved", item.actor, {"reason": item.reason, "request": seen})])
    tx.hint(Hint.CHANGE | Hint.WORK)
