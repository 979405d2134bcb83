"""Runs that have not begun: what they wait for, and how they end without ever running.

A run that waits for others is `blocked` by as many as are open in `run_waits`. The other one is marked as `awaited`, so
that its end, and no other, looks for who waits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Boolean, Connection, and_, bindparam, insert, or_, select, update

from jobdeck.errors import Conflict, NotFound
from jobdeck.ids import show_id
from jobdeck.states import TERMINAL, WAITING, Condition, FailureKind, Status
from jobdeck.store.columns import word
from jobdeck.store.events import Event, record
from jobdeck.store.failures import Entangled
from jobdeck.store.outbox.announce import announce
from jobdeck.store.pieces import pieces
from jobdeck.store.schema import run_waits, runs
from jobdeck.store.transaction import Hint, JobEnd, Tx


class Turn(StrEnum):
    """Why a run waits for another one besides the conditions people state."""

    KEY = "turn"
    """It is next under a key that the other one holds."""


FACTS: Final = (
    *(runs.c.id, runs.c.team_id, runs.c.job_type, runs.c.status),
    *(runs.c.awaited, runs.c.announces, runs.c.job_id),
)
"""What `end_waiting` has to know of a run, whose row is locked."""


class End(NamedTuple):
    """How a waiting run ends: `cancelled` or `expired`, told as an event of this kind."""

    status: Status
    kind: str
    actor: str
    reason: str | None = None
    failure_kind: FailureKind | None = None
    error: str | None = None
    asked: bool = False
    """Whether somebody asked for it: kept as the request to cancel."""


def end_waiting(tx: Tx, ends: Sequence[tuple[Any, End]]) -> None:
    """End runs that wait, with all that depend on them. The rows are locked, and have `FACTS`."""
    let_go(tx, _end_each(tx, ends))


def _end_each(tx: Tx, ends: Sequence[tuple[Any, End]]) -> list[tuple[UUID, Status]]:
    """End runs that wait; those of them that others wait for."""
    if not ends:
        return []
    tx.conn.execute(_END, [_ended(row, end, tx.now) for row, end in ends])
    for ids in pieces(row.id for row, _ in ends):
        tx.conn.execute(update(run_waits).where(run_waits.c.run_id.in_(ids), _OPEN).values(open=False))
    for row, end in ends:
        tx.count(row.team_id, row.job_type, Status(row.status), end.status)
        if row.job_id is not None:
            tx.ends.append(JobEnd(row.id, row.job_id, end.status))
    record(tx, [Event(row.id, end.kind, end.actor, {"reason": end.reason}) for row, end in ends])
    tx.hint(Hint.CHANGE)
    announce(tx, [row.id for row, _ in ends if row.announces])
    return [(row.id, end.status) for row, end in ends if row.awaited]


_END: Final = (
    update(runs)
    .where(runs.c.id == bindparam("run"), runs.c.status == bindparam("was"))
    .values(
        status=bindparam("status"),
        finished_at=bindparam("at"),
        failure_kind=bindparam("failure_kind"),
        error=bindparam("error"),
        cancel_requested_at=bindparam("asked_at"),
        cancel_requested_by=bindparam("asked_by"),
        cancel_reason=bindparam("reason"),
        blocked=0,
        behind=False,
        gated=False,
        revision=runs.c.revision + 1,
    )
)


def _ended(row: Any, end: End, now: int) -> dict[str, Any]:
    return {
        "run": row.id,
        "was": row.status,
        "status": end.status,
        "at": now,
        "failure_kind": end.failure_kind,
        "error": end.error,
        "asked_at": now if end.asked else None,
        "asked_by": end.actor if end.asked else None,
        "reason": end.reason if end.asked else None,
    }


def let_go(tx: Tx, ended: Sequence[tuple[UUID, Status]]) -> None:
    """These runs have ended, and others wait for that: free those whose condition has come true, end the others."""
    # Down the chain step by step, for it may be longer than calls can be deep.
    while ended:
        ended = _let_go_next(tx, dict(ended))


def _let_go_next(tx: Tx, statuses: dict[UUID, Status]) -> list[tuple[UUID, Status]]:
    """Those that have ended by this, and that others wait for."""
    waiting: set[UUID] = set()
    for on_ids in pieces(statuses):
        query = select(run_waits.c.run_id).where(run_waits.c.on_id.in_(on_ids), _OPEN)
        waiting.update(tx.conn.execute(query).scalars())
    if not waiting:
        return []
    # The runs before their waits, as whoever ends one does; what that one has closed meanwhile is open no more.
    _lock_late(tx, waiting)
    met: list[Any] = []
    missed: list[Any] = []
    for row in _closed(tx, statuses):
        (met if is_met(row.condition, statuses[row.on_id]) else missed).append(row)
    if met:
        stay = _still_behind(tx, [row.run_id for row in met])
        tx.conn.execute(_FREE, [{"run": row.run_id, "stays": row.run_id in stay} for row in met])
        tx.hint(Hint.WORK | Hint.CHANGE)
    return _give_up(tx, missed, statuses)


def _lock_late(tx: Tx, run_ids: Collection[UUID]) -> None:
    """Lock runs when leases may be locked already. Raises Entangled where others have some of them."""
    if tx.patient:
        tx.differences.lock_rows(tx.conn, runs.c.id, run_ids)
    elif not tx.differences.lock_free_rows(tx.conn, runs.c.id, run_ids):
        raise Entangled(run_ids)


_OPEN: Final = run_waits.c.open


def _closed(tx: Tx, on_ids: Iterable[UUID]) -> list[Any]:
    """The waits for these runs that were open until now, in the order of those that wait."""
    rows: list[Any] = []
    for some in pieces(on_ids):
        closing = update(run_waits).where(run_waits.c.on_id.in_(some), _OPEN).values(open=False)
        rows += tx.conn.execute(closing.returning(run_waits)).all()
    return sorted(rows, key=lambda row: row.run_id)


# Not IN: a list of values cannot be given many times.
_WAITS: Final = or_(*(runs.c.status == word(status) for status in sorted(WAITING)))
_FREE: Final = (
    update(runs)
    .where(runs.c.id == bindparam("run"), _WAITS, runs.c.blocked > 0)
    .values(
        blocked=runs.c.blocked - 1,
        behind=and_(runs.c.behind, bindparam("stays", type_=Boolean)),
        revision=runs.c.revision + 1,
    )
)


def _still_behind(tx: Tx, run_ids: Sequence[UUID]) -> set[UUID]:
    """Those of them that are still next under a key that another run holds."""
    found: set[UUID] = set()
    for some in pieces(run_ids):
        query = select(run_waits.c.run_id).where(
            run_waits.c.run_id.in_(some), _OPEN, run_waits.c.condition == Turn.KEY
        )
        found.update(tx.conn.execute(query).scalars())
    return found


def is_met(condition: str, status: Status) -> bool:
    """Whether a run that ended with this status is what the condition waits for."""
    if condition == Condition.COMPLETED:
        return status is Status.COMPLETED
    if condition == Condition.FAILED:
        return status in (Status.FAILED, Status.DEAD, Status.EXPIRED)
    return True


def _give_up(tx: Tx, waits: Sequence[Any], statuses: dict[UUID, Status]) -> list[tuple[UUID, Status]]:
    """End the runs whose condition cannot come true any more; those of them that others wait for."""
    reasons: dict[UUID, str] = {}
    for row in waits:
        shown = show_id("run", row.on_id)
        reasons.setdefault(
            row.run_id, f"waited for {shown} to be {row.condition}; it ended as {statuses[row.on_id]}"
        )
    found: list[Any] = []
    for some in pieces(reasons):
        query = select(*FACTS).where(runs.c.id.in_(some), runs.c.status.in_(sorted(WAITING)))
        found += tx.conn.execute(tx.differences.locked(query, by=runs.c.id)).all()
    return _end_each(
        tx,
        [
            (
                row,
                End(
                    Status.CANCELLED,
                    "dependency_failed",
                    "system",
                    reasons[row.id],
                    FailureKind.DEPENDENCY,
                    reasons[row.id],
                ),
            )
            for row in found
        ],
    )


class Wish(NamedTuple):
    """A wait of a run that is about to be stored."""

    on_id: UUID
    condition: str
    open: bool


def check_waits(tx: Tx, team_id: UUID, wanted: Sequence[tuple[UUID, str]]) -> list[Wish]:
    """Lock the runs of the team that a new one wants to wait for, and see which of them are still to end.

    Raises NotFound, and Conflict where one has ended otherwise than is waited for.
    """
    query = select(runs.c.id, runs.c.status).where(
        runs.c.team_id == team_id, runs.c.id.in_([on_id for on_id, _ in wanted])
    )
    rows = tx.conn.execute(tx.differences.locked(query, by=runs.c.id)).all()
    statuses = {row.id: Status(row.status) for row in rows}
    return [_wish(on_id, condition, statuses.get(on_id)) for on_id, condition in wanted]


def _wish(on_id: UUID, condition: str, status: Status | None) -> Wish:
    shown = show_id("run", on_id)
    if status is None:
        raise NotFound(f"no run {shown} in this team to wait for")
    if status in TERMINAL and not is_met(condition, status):
        raise Conflict(f"{shown} has ended as {status}, so it can never be {condition}; retry it first")
    return Wish(on_id, condition, status not in TERMINAL)


def store_waits(tx: Tx, run_id: UUID, wishes: Sequence[Wish]) -> int:
    """Let a new run wait; for how many it has to."""
    if not wishes:
        return 0
    tx.conn.execute(insert(run_waits), [{"run_id": run_id, **wish._asdict()} for wish in wishes])
    still = [wish.on_id for wish in wishes if wish.open]
    if still:
        tx.conn.execute(update(runs).where(runs.c.id.in_(still)).values(awaited=True))
    return len(still)


def waits_of(conn: Connection, run_id: UUID) -> list[tuple[UUID, str, bool]]:
    """What a run waits or has waited for: the other run, the condition, whether it is still open."""
    query = (
        select(run_waits)
        .where(run_waits.c.run_id == run_id)
        .order_by(run_waits.c.on_id, run_waits.c.condition)
    )
    return [(row.on_id, row.condition, bool(row.open)) for row in conn.execute(query)]
