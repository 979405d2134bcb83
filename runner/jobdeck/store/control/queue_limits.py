"""How many runs of a queue may run at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from jobdeck.errors import JobdeckError
from jobdeck.store.control.known import forget
from jobdeck.store.schema import queues
from jobdeck.store.transaction import Hint, Rank, Tx, verb


@dataclass(frozen=True, slots=True)
class LimitQueue:
    """At most `max_concurrency` runs of the team's queue run at a time; None: as many as there are slots."""

    team_id: UUID
    name: str
    max_concurrency: int | None
    actor: str


@verb(Rank.CHANGE)
def limit_queue(tx: Tx, items: Sequence[LimitQueue]) -> Sequence[str | JobdeckError]:
    """The names of the queues; one that was never declared is declared so."""
    for item in items:
        row = {"team_id": item.team_id, "name": item.name, "created_at": tx.now, "created_by": item.actor}
        limited = {"max_concurrency": item.max_concurrency}
        told = tx.differences.insert(queues).values(row | limited)
        tx.conn.execute(told.on_conflict_do_update(index_elements=["team_id", "name"], set_=limited))
    forget(tx)
    tx.hint(Hint.CHANGE | Hint.WORK)
    return [item.name for item in items]
