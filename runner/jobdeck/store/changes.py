"""What people do to a run: cancel it, retry it. Guarded by the transition table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import and_, select, update

from jobdeck.errors import AlreadyActive, Conflict, JobdeckError, NotCancellable, NotFound
from jobdeck.ids import show_id
from jobdeck.model import CancelEffect, CancelReply
from jobdeck.states import RETRYABLE, TERMINAL, WAITING, AttemptOutcome, Status
from jobdeck.store.control.gates import gates_of_jobs
from jobdeck.store.events import Event, record
from jobdeck.store.finish import leased, write_ends
from jobdeck.store.holders import hold_flights, stands_against
from jobdeck.store.locks import Locks, lock_runs
from jobdeck.store.schema import HOLDS_DEDUPE, leases, runs
from jobdeck.store.transaction import Hint, Rank, Tx, verb
from jobdeck.store.waiting import FACTS, End, end_waiting
from jobdeck.verdict import Ending


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
    row = locked_run(tx, item.team_id, item.run_id)
    if row is None:
        return unknown_run(item.run_id)
    status = _known_status(row)
    if status in TERMINAL:
        return NotCancellable(f"{show_id('run', item.run_id)} has already ended as {status}", status=status)
    shown, before = show_id("run", item.run_id), {"status": status}
    if status in WAITING:
        end_waiting(tx, [(row, End(Status.CANCELLED, "cancelled", item.actor, item.reason, asked=True))])
        tx.tell(item, shown, before, {"status": Status.CANCELLED})
        return CancelReply(item.run_id, Status.CANCELLED, True, CancelEffect.NOW)
    tx.tell(item, shown, before, {"status": status, "cancel_requested": True})
    # The first request stays: who asked, when and why is a fact that a second key press must not rewrite.
    if row.cancel_requested_at is None and request_stop(tx, item.run_id, item.actor, item.reason):
        return CancelReply(item.run_id, Status.CANCELLED, True, CancelEffect.NOW)
    return CancelReply(item.run_id, status, False, CancelEffect.REQUESTED)


def _known_status(row: Any) -> Status:
    """Raises Conflict for a status that only somebody with the database's password can have put there."""
    try:
        return Status(row.status)
    except ValueError:
        shown = show_id("run", row.id)
        raise Conflict(
            f"the status of {shown} is none of jobdeck's; its row has been changed by hand"
        ) from None


def request_stop(tx: Tx, run_id: UUID, actor: str, reason: str | None) -> bool:
    """Ask a running run to stop; its row is locked. True where it has ended by that: nobody would notice if parked."""
    asked = {
        "cancel_requested_at": tx.now,
        "cancel_requested_by": actor,
        "cancel_reason": reason,
        "revision": runs.c.revision + 1,
    }
    tx.conn.execute(update(runs).where(runs.c.id == run_id, runs.c.status == Status.RUNNING).values(asked))
    told = update(leases).where(leases.c.run_id == run_id).values(cancel_requested_at=tx.now)
    parked = tx.conn.execute(told.returning(leases.c.parked)).scalar()
    record(tx, [Event(run_id, "cancel_requested", actor, {"reason": reason})])
    tx.hint(Hint.CANCEL | Hint.CHANGE)
    if parked:
        rows = tx.conn.execute(leased().where(runs.c.id == run_id)).all()
        write_ends(tx, [(row, Ending(AttemptOutcome.CANCELLED)) for row in rows], actor=actor)
    return bool(parked)


@verb(Rank.CHANGE, Locks(lambda item: (item.run_id,), runs=True))
def retry(tx: Tx, items: Sequence[RetryRun]) -> Sequence[UUID | JobdeckError]:
    """Failed, dead, cancelled and expired runs become pending. NotFound, Conflict, AlreadyActive."""
    gates = gates_of_jobs(tx, {item.run_id for item in items})
    _lock_all(tx, items)
    return [_retry_one(tx, item, gates) for item in items]


def _retry_one(tx: Tx, item: RetryRun, gates: Mapping[UUID, int]) -> UUID | JobdeckError:
    row = locked_run(tx, item.team_id, item.run_id)
    if row is None:
        return unknown_run(item.run_id)
    status = _known_status(row)
    if status not in RETRYABLE:
        return Conflict(
            f"{show_id('run', item.run_id)} is {status}; only {_words(RETRYABLE)} runs can be retried"
        )
    other = _key_holder(tx, row)
    if other is not None:
        shown = show_id("run", other)
        return AlreadyActive(f"another run of this type is already active: {shown}", existing_run_id=shown)
    # What nobody has approved yet still has to be.
    unapproved = row.requires_approval and row.approved_hash is None
    after = Status.AWAITING_APPROVAL if unapproved else Status.PENDING
    tx.conn.execute(
        update(runs)
        .where(runs.c.id == item.run_id, runs.c.status == status)
        .values(
            status=after,
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
            blocked=0,
            behind=False,
            gated=False,
            # Limits and pauses of its job have come and gone since it ended.
            **({} if row.job_id is None else {"gate": gates.get(row.job_id, 0)}),
            revision=runs.c.revision + 1,
        )
    )
    tx.count(item.team_id, row.job_type, status, after)
    tx.tell(item, show_id("run", item.run_id), {"status": status}, {"status": after})
    record(tx, [Event(item.run_id, "retried", item.actor, {"reason": item.reason})])
    tx.hint(Hint.CHANGE | Hint.WORK)
    return item.run_id


def _lock_all(tx: Tx, items: Sequence[Cancel | RetryRun]) -> None:
    if len(items) > 1:
        lock_runs(tx.conn, tx.differences, (item.run_id for item in items))


def locked_run(tx: Tx, team_id: UUID, run_id: UUID) -> Any:
    """What changes of a run have to know of it, its row locked; None where the team has no such run."""
    query = select(
        *FACTS,
        *(runs.c[name] for name in ("cancel_requested_at", "flight_key", "dedupe_key", "dedupe_until")),
        *(runs.c[name] for name in ("requires_approval", "approved_hash")),
    ).where(runs.c.team_id == team_id, runs.c.id == run_id)
    return tx.conn.execute(tx.differences.locked(query, by=runs.c.id)).one_or_none()


def unknown_run(run_id: UUID) -> NotFound:
    """The error for a run that the team does not have."""
    return NotFound(f"no run {show_id('run', run_id)} in this team")


def _key_holder(tx: Tx, row: Any) -> UUID | None:
    """The active run that holds a key of this ended one."""
    conditions = []
    if row.flight_key is not None:
        hold_flights(tx, [(row.team_id, row.flight_key)])
        conditions.append(stands_against(row.flight_key))
    if row.dedupe_key is not None and row.dedupe_until is None:
        same = (runs.c.job_type == row.job_type, runs.c.dedupe_key == row.dedupe_key)
        conditions.append(and_(*same, HOLDS_DEDUPE))
    for condition in conditions:
        query = select(runs.c.id).where(runs.c.team_id == row.team_id, condition).order_by(runs.c.behind)
        found: UUID | None = tx.conn.execute(query.limit(1)).scalar()
        if found is not None:
            return found
    return None


def _words(statuses: frozenset[Status]) -> str:
    return ", ".join(sorted(statuses))
