"""Pauses: whoever may, says that nothing of a queue, a type, a job, a team or of everything begins for a while."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Select,
    and_,
    delete,
    exists,
    insert,
    or_,
    select,
)

from jobdeck.clock import from_us
from jobdeck.errors import Conflict, JobdeckError
from jobdeck.ids import new_id
from jobdeck.model import Pause
from jobdeck.states import PauseKind
from jobdeck.store.columns import word
from jobdeck.store.control.gates import drop_idle_gate, ensure_gate
from jobdeck.store.control.known import forget
from jobdeck.store.lanes import NOW
from jobdeck.store.members import lacks_installation
from jobdeck.store.schema import gates, jobs, pauses
from jobdeck.store.transaction import Hint, Rank, Tx, verb


@dataclass(frozen=True, slots=True)
class Target:
    """What is paused or resumed. Everything, where there is no team."""

    team_id: UUID | None
    kind: PauseKind
    name: str = ""
    job_id: UUID | None = None
    by: str = ""
    """Who pauses or resumes it; asked for what concerns all teams."""


@dataclass(frozen=True, slots=True)
class MakePause:
    """Nothing of the target begins for `span`, or until it is resumed."""

    target: Target
    actor: str
    reason: str | None = None
    span: timedelta | None = None


@verb(Rank.CHANGE)
def pause(tx: Tx, items: Sequence[MakePause]) -> Sequence[Pause | JobdeckError]:
    """The pause of each target; it takes the place of an earlier one. NotFound for a job."""
    return [_pause(tx, item) for item in items]


def _pause(tx: Tx, item: MakePause) -> Pause | JobdeckError:
    target = item.target
    if target.team_id is None and (refused := lacks_installation(tx, item.actor)):
        return refused
    gate = None
    if target.job_id is not None and target.team_id is not None:
        # Who makes a run of the job waits for this, or this for them: no run is left out of the gate.
        tx.conn.execute(
            tx.differences.locked(select(jobs.c.id).where(jobs.c.id == target.job_id), by=jobs.c.id)
        )
        gate = ensure_gate(tx, target.team_id, job_id=target.job_id)
    tx.conn.execute(delete(pauses).where(*_same(target, gate)))
    until = None if item.span is None else tx.now + int(item.span.total_seconds() * 1_000_000)
    row = {
        "id": new_id(),
        "team_id": target.team_id,
        "kind": target.kind,
        "name": target.name,
        "gate": gate,
        "reason": item.reason,
        "actor": item.actor,
        "at": tx.now,
        "until": until,
    }
    tx.conn.execute(insert(pauses), row)
    tx.tell(item, words_of(target.kind, target.name), None, {"paused_until": until})
    forget(tx)
    tx.hint(Hint.CHANGE)
    return _shown(row)


@verb(Rank.CHANGE)
def resume(tx: Tx, items: Sequence[Target]) -> Sequence[Pause | JobdeckError]:
    """The pause that is over now, of each target. Conflict for what is not paused."""
    return [_resume(tx, item) for item in items]


def _resume(tx: Tx, target: Target) -> Pause | JobdeckError:
    if target.team_id is None and (refused := lacks_installation(tx, target.by)):
        return refused
    gate = _gate_of(tx, target.job_id)
    row = (
        tx.conn.execute(select(pauses).where(*_same(target, gate), _holds(pauses, tx.now))).mappings().first()
    )
    tx.conn.execute(delete(pauses).where(*_same(target, gate)))
    if target.job_id is not None:
        drop_idle_gate(tx, target.job_id)
    if row is None:
        return Conflict(f"{words_of(target.kind, target.name)} is not paused; see: jobdeck pauses")
    tx.tell(target, words_of(target.kind, target.name), {"paused_until": row["until"]})
    forget(tx)
    tx.hint(Hint.CHANGE | Hint.WORK)
    return _shown(row)


def _gate_of(tx: Tx, job_id: UUID | None) -> int | None:
    """The gate of a job, whose row is locked then."""
    if job_id is None:
        return None
    tx.conn.execute(tx.differences.locked(select(jobs.c.id).where(jobs.c.id == job_id), by=jobs.c.id))
    found: int | None = tx.conn.execute(select(gates.c.id).where(gates.c.job_id == job_id)).scalar()
    return found


def _same(target: Target, gate: int | None) -> Sequence[ColumnElement[bool]]:
    if target.kind is PauseKind.JOB:
        # Not by its slug, which jobs of other projects may have too.
        return (pauses.c.kind == target.kind, pauses.c.gate == gate)
    team = pauses.c.team_id.is_(None) if target.team_id is None else pauses.c.team_id == target.team_id
    return team, pauses.c.kind == target.kind, pauses.c.name == target.name


def end_pauses(tx: Tx) -> None:
    """Forget the pauses whose time is over; they have not held anything back since."""
    tx.conn.execute(delete(pauses).where(pauses.c.until <= tx.now))


def words_of(kind: str, name: str) -> str:
    """What is paused, in words."""
    return {"all": "everything", "type": f"the job type {name}"}.get(kind, f"the {kind} {name}")


def list_pauses(conn: Connection, now: int, team_id: UUID) -> list[Pause]:
    """What holds runs of the team back now, the widest first."""
    mine = or_(pauses.c.team_id.is_(None), pauses.c.team_id == team_id)
    rows = conn.execute(select(pauses).where(mine, _holds(pauses, now))).mappings()
    order = list(PauseKind)
    return sorted(map(_shown, rows), key=lambda found: (order.index(found.kind), found.name))


def _shown(row: Any) -> Pause:
    until = None if row["until"] is None else from_us(row["until"])
    kind = PauseKind(row["kind"])
    about = (row["name"], row["reason"], row["actor"], from_us(row["at"]), until, row["gate"])
    return Pause(row["id"], kind, *about)


def not_paused(head: FromClause) -> ColumnElement[bool]:
    """The condition under which a lane, or a run, is not held back by a pause; `now` is a parameter."""
    return ~exists(_holding(head, NOW))


def is_paused(table: FromClause, now: int) -> ColumnElement[bool]:
    """The condition under which a pause holds a run back at that time."""
    return exists(_holding(table, now))


def pauses_of(conn: Connection, now: int, run: FromClause, run_id: UUID) -> list[Pause]:
    """What holds this run of the table back."""
    query = _holding(run, now, pauses).where(run.c.id == run_id)
    return [_shown(row) for row in conn.execute(query).mappings()]


def _holding(table: FromClause, now: Any, *columns: Any) -> Select[Any]:
    kind = pauses.c.kind
    narrow = or_(
        kind == word(PauseKind.TEAM),
        and_(kind == word(PauseKind.QUEUE), pauses.c.name == table.c.queue),
        and_(kind == word(PauseKind.TYPE), pauses.c.name == table.c.job_type),
        and_(kind == word(PauseKind.JOB), pauses.c.gate == table.c.gate),
    )
    of_it = or_(kind == word(PauseKind.ALL), and_(pauses.c.team_id == table.c.team_id, narrow))
    return select(*(columns or (pauses.c.id,))).where(_holds(pauses, now), of_it)


def _holds(table: FromClause, now: Any) -> ColumnElement[bool]:
    return or_(table.c.until.is_(None), table.c.until > now)
