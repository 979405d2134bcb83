"""Changing a run that has not begun: its params, due time, priority or queue. An approval of it is void then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select, update

from jobdeck.audit import digest
from jobdeck.clock import to_us
from jobdeck.errors import AlreadyActive, Conflict, JobdeckError
from jobdeck.ids import show_id
from jobdeck.states import WAITING, Status
from jobdeck.store.changes import unknown_run
from jobdeck.store.events import Event, record
from jobdeck.store.holders import hold_flights, stands_against
from jobdeck.store.locks import Locks, lock_runs
from jobdeck.store.schema import runs
from jobdeck.store.transaction import Hint, Rank, Tx, verb
from jobdeck.store.waiting import FACTS

PINNED: Final = '{"pinned":true}'
"""As the overrides of a run: nothing of it is another version's business."""


@dataclass(frozen=True, slots=True)
class Amend:
    """New values for a waiting run of this team; None leaves what is there."""

    team_id: UUID
    run_id: UUID
    actor: str
    reason: str | None
    params: str | None = None
    flight_key: str | None = None
    """The key that goes with new params."""
    queue: str | None = None
    priority: int | None = None
    due_at: datetime | None = None
    delay: timedelta | None = None
    """Due this long after the database's now; goes before `due_at`."""


@verb(Rank.CHANGE, Locks(lambda item: (item.run_id,), runs=True))
def amend(tx: Tx, items: Sequence[Amend]) -> Sequence[UUID | JobdeckError]:
    """Change waiting runs. NotFound, Conflict for one that has begun, AlreadyActive under its new key."""
    if len(items) > 1:
        lock_runs(tx.conn, tx.differences, (item.run_id for item in items))
    return [_amend(tx, item) for item in items]


def _amend(tx: Tx, item: Amend) -> UUID | JobdeckError:
    told = (runs.c.params, runs.c.queue, runs.c.priority, runs.c.due_at)
    query = select(*FACTS, runs.c.flight_key, runs.c.approved_at, *told).where(
        runs.c.team_id == item.team_id, runs.c.id == item.run_id
    )
    row = tx.conn.execute(tx.differences.locked(query, by=runs.c.id)).one_or_none()
    if row is None:
        return unknown_run(item.run_id)
    status = Status(row.status)
    if status not in WAITING:
        return Conflict(f"{show_id('run', item.run_id)} is {status}; only a run that waits can be changed")
    values = _values(item, tx.now)
    if item.params is not None and row.job_id is not None:
        # No newer version of its job may change what somebody has stated.
        values["overrides"] = PINNED
    if item.params is not None and item.flight_key != row.flight_key:
        other = _holder(tx, item)
        if other is not None:
            shown = show_id("run", other)
            return AlreadyActive(f"a run with these params is already active: {shown}", existing_run_id=shown)
        values["flight_key"] = item.flight_key
    changed = sorted({*values} - {"overrides"})
    if row.approved_at is not None:
        values |= {"approved_at": None, "approved_by": None, "approved_hash": None}
        if status is Status.PENDING:
            values["status"] = Status.AWAITING_APPROVAL
            tx.count(row.team_id, row.job_type, status, Status.AWAITING_APPROVAL)
    values["revision"] = runs.c.revision + 1
    tx.conn.execute(update(runs).where(runs.c.id == item.run_id, runs.c.status == status).values(values))
    before, after = ({name: each[name] for name in changed} for each in (row._mapping, values))
    tx.tell(item, show_id("run", item.run_id), _words(before), _words(after))
    record(tx, [Event(item.run_id, "amended", item.actor, {"changed": changed, "reason": item.reason})])
    tx.hint(Hint.CHANGE | Hint.WORK)
    return item.run_id


def _values(item: Amend, now: int) -> dict[str, Any]:
    given = {"params": item.params, "queue": item.queue, "priority": item.priority}
    values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if item.delay is not None:
        values["due_at"] = now + int(item.delay.total_seconds() * 1_000_000)
    elif item.due_at is not None:
        values["due_at"] = max(to_us(item.due_at), 0)
    return values


def _words(values: dict[str, Any]) -> dict[str, Any]:
    """Values of a run as the audit may have them."""
    return {name: digest(value) if name == "params" else value for name, value in values.items()}


def _holder(tx: Tx, item: Amend) -> UUID | None:
    """The active run that stands against the new key, also where this one only waits for its turn under another."""
    if item.flight_key is None:
        return None
    hold_flights(tx, [(item.team_id, item.flight_key)])
    query = select(runs.c.id).where(
        runs.c.team_id == item.team_id, stands_against(item.flight_key), runs.c.id != item.run_id
    )
    found: UUID | None = tx.conn.execute(query.limit(1)).scalar()
    return found
