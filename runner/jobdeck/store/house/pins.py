"""Runs that are kept for good, whatever is pruned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select, update

from jobdeck.errors import JobdeckError
from jobdeck.ids import show_id
from jobdeck.store.changes import unknown_run
from jobdeck.store.events import Event, record
from jobdeck.store.locks import Locks, lock_runs
from jobdeck.store.schema import runs
from jobdeck.store.transaction import Hint, Rank, Tx, verb


@dataclass(frozen=True, slots=True)
class Pin:
    """Keep a run of this team, or let it go again."""

    team_id: UUID
    run_id: UUID
    actor: str
    pinned: bool
    reason: str | None = None


@verb(Rank.CHANGE, Locks(lambda item: (item.run_id,), runs=True))
def pin(tx: Tx, items: Sequence[Pin]) -> Sequence[JobdeckError | None]:
    """NotFound; one that is pinned, or is not, already stays as it is."""
    lock_runs(tx.conn, tx.differences, (item.run_id for item in items))
    return [_pin(tx, item) for item in items]


def _pin(tx: Tx, item: Pin) -> JobdeckError | None:
    mine = (runs.c.team_id == item.team_id, runs.c.id == item.run_id)
    before = tx.conn.execute(select(runs.c.pinned).where(*mine)).scalar()
    if before is None:
        return unknown_run(item.run_id)
    tx.tell(item, show_id("run", item.run_id), {"pinned": bool(before)}, {"pinned": item.pinned})
    if bool(before) != item.pinned:
        changed = {"pinned": item.pinned, "revision": runs.c.revision + 1}
        tx.conn.execute(update(runs).where(*mine).values(changed))
        kind = "pinned" if item.pinned else "unpinned"
        record(tx, [Event(item.run_id, kind, item.actor, {"reason": item.reason})])
        tx.hint(Hint.CHANGE)
    return None
