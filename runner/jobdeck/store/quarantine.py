"""Runs whose rows nothing of ours has written: they are ended unseen, so that they keep no worker from the others.

Whoever may write to the database may put anything into it: a fence that cannot grow, a text where a number belongs.
What such a row makes fail is found out first (a claim, an outcome, a recovery); then it comes here.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, case, delete, not_, or_, select, update

from jobdeck import limits
from jobdeck.errors import JobdeckError
from jobdeck.ids import show_id
from jobdeck.states import FailureKind, Status
from jobdeck.store.control.turns import give_places
from jobdeck.store.events import Event, record
from jobdeck.store.failures import concerns_all
from jobdeck.store.outbox.announce import announce
from jobdeck.store.schema import leases, run_waits, runs
from jobdeck.store.transaction import Hint, JobEnd, Rank, Tx, verb
from jobdeck.store.waiting import FACTS, let_go

_log = logging.getLogger("jobdeck.store.quarantine")
_AT_ONCE: Final = 500
# What can still grow by one in a column of whole numbers, on both databases.
_GROWS: Final = (0, 2**31 - 2)
# With their bounds, and what stands there afterwards where they are broken. A fence never goes back.
_NUMBERS: Final = {
    "fence": (_GROWS, _GROWS[1]),
    "attempt": (_GROWS, 0),
    "revision": (_GROWS, 0),
    "priority": ((limits.PRIORITY_MIN, limits.PRIORITY_MAX), limits.PRIORITY_DEFAULT),
    "max_attempts": ((limits.MAX_ATTEMPTS_MIN, limits.MAX_ATTEMPTS_MAX), limits.MAX_ATTEMPTS_MIN),
    "failures": (_GROWS, 0),
    "crash_count": (_GROWS, 0),
    "gate": (_GROWS, 0),
    "blocked": (_GROWS, 0),
}
_ENDS: Final = {
    Status.AWAITING_APPROVAL: Status.CANCELLED,
    Status.PENDING: Status.CANCELLED,
    Status.RUNNING: Status.FAILED,
}


@dataclass(frozen=True, slots=True)
class Quarantine:
    """End this run; without one, those that wait and could never be taken."""

    actor: str
    run_id: UUID | None = None
    why: str = "numbers of its row are out of range"


@verb(Rank.CHANGE)
def quarantine(tx: Tx, items: Sequence[Quarantine]) -> Sequence[list[UUID] | JobdeckError]:
    """Which runs each item has ended."""
    return [_quarantine(tx, item) for item in items]


def put_away(tx: Tx, actor: str, run_id: UUID, cause: Exception, what: str) -> bool:
    """End a run that has kept a write from succeeding; False where not even that can be done, which the log says."""
    try:
        with tx.attempt():
            return bool(_quarantine(tx, Quarantine(actor, run_id, f"{what} ({type(cause).__name__})")))
    except Exception as error:
        if concerns_all(error):
            raise
        _log.error("%s stays as it is: %s", show_id("run", run_id), what, exc_info=error)
        return False


def _quarantine(tx: Tx, item: Quarantine) -> list[UUID]:
    if item.run_id is None:
        chosen = (runs.c.status == Status.PENDING, or_(*(not_(_is_sound(name)) for name in _NUMBERS)))
    else:
        chosen = (runs.c.id == item.run_id, runs.c.status.in_(_ENDS))
    query = select(*FACTS, runs.c.gate).where(*chosen)
    rows = tx.conn.execute(tx.differences.locked(query.limit(_AT_ONCE), by=runs.c.id)).all()
    for row in rows:
        _end(tx, row, item)
    if gated := [row.id for row in rows if row.gate and row.status == Status.RUNNING]:
        give_places(tx, gated)
    return [row.id for row in rows]


def _end(tx: Tx, row: Any, item: Quarantine) -> None:
    before, after = Status(row.status), _ENDS[Status(row.status)]
    words = (
        f"{show_id('run', row.id)} is not worked on: {item.why}; somebody has changed its row in the database"
    )
    tx.conn.execute(
        update(runs)
        .where(runs.c.id == row.id, runs.c.status == before)
        .values(
            status=after,
            failure_kind=FailureKind.REJECTED,
            error=words,
            finished_at=tx.now,
            behind=False,
            gated=False,
            **({name: _sound(name) for name in _NUMBERS} | {"blocked": 0}),
        )
    )
    tx.conn.execute(delete(leases).where(leases.c.run_id == row.id))
    waits = (run_waits.c.run_id == row.id, run_waits.c.open)
    tx.conn.execute(update(run_waits).where(*waits).values(open=False))
    tx.count(row.team_id, row.job_type, before, after)
    record(tx, [Event(row.id, "quarantined", item.actor, {"status": after, "reason": item.why})])
    tx.hint(Hint.CHANGE)
    if row.job_id is not None:
        tx.ends.append(JobEnd(row.id, row.job_id, after))
    if row.announces:
        announce(tx, [row.id])
    if row.awaited:
        let_go(tx, [(row.id, after)])


def _is_sound(name: str) -> ColumnElement[bool]:
    # A text among SQLite's numbers is more than any of them.
    return runs.c[name].between(*_NUMBERS[name][0])


def _sound(name: str) -> ColumnElement[Any]:
    grown = runs.c[name] + 1 if name == "revision" else runs.c[name]
    return case((_is_sound(name), grown), else_=_NUMBERS[name][1])
