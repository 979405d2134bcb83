"""What runs out of time before it begins: runs with a time to live, and keys that stand for a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import select

from jobdeck.errors import JobdeckError
from jobdeck.states import Status
from jobdeck.store.failures import concerns_all
from jobdeck.store.quarantine import put_away
from jobdeck.store.schema import EXPIRES, runs
from jobdeck.store.timed_keys import forget_old_keys
from jobdeck.store.transaction import Rank, Tx, verb
from jobdeck.store.waiting import FACTS, End, end_waiting

_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Expire:
    """Look for what has run out of time; `actor` is who looks."""

    actor: str


@verb(Rank.CHANGE)
def expire(tx: Tx, items: Sequence[Expire]) -> Sequence[int | JobdeckError]:
    """End waiting runs whose time to live is over, and forget old keys; how many runs."""
    query = select(*FACTS).where(EXPIRES, runs.c.expires_at <= tx.now).order_by(runs.c.expires_at, runs.c.id)
    rows = tx.conn.execute(tx.differences.unlocked_only(query.limit(_AT_ONCE), runs)).all()
    words = "its time to live was over before it could begin"
    end = End(Status.EXPIRED, "expired", items[0].actor, error=words)
    expired = _expire(tx, rows, end)
    forget_old_keys(tx)
    return [expired, *[0] * (len(items) - 1)]


def _expire(tx: Tx, rows: Sequence[Any], end: End) -> int:
    """How many; one that cannot be ended so must not keep the others from it, and is put away."""
    if not rows:
        return 0
    try:
        with tx.attempt():
            end_waiting(tx, [(row, end) for row in rows])
        return len(rows)
    except Exception as error:
        if concerns_all(error):
            raise
        if len(rows) == 1:
            return int(put_away(tx, end.actor, rows[0].id, error, "its time is over and it cannot be ended"))
    return sum(_expire(tx, [row], end) for row in rows)
