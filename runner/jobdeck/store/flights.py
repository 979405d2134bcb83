"""Single flight: which runs are active under which key.

A key is `project:type:digest`. Who cannot narrow it (the handler's package is not installed there) leaves the digest
empty: that widest key stands against every key of the type, and every key against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import or_, select

from jobdeck.model import NewRun
from jobdeck.store.schema import HOLDS_FLIGHT, runs
from jobdeck.store.transaction import Tx


def widest(key: str) -> str:
    """The key without its digest."""
    return key.rpartition(":")[0] + ":"


class Flights:
    """The active runs that stand in the way of some new ones; grows with those that are taken in."""

    def __init__(self, tx: Tx, items: Sequence[NewRun]) -> None:
        self._by_key: dict[tuple[UUID, str], UUID] = {}
        self._by_type: dict[tuple[UUID, str], UUID] = {}
        keys = {item.flight_key for item in items if item.flight_key is not None}
        if not keys:
            return
        whole = {key for key in keys if key == widest(key)}
        wanted = keys | {widest(key) for key in keys}
        query = select(runs.c.team_id, runs.c.flight_key, runs.c.id).where(
            runs.c.team_id.in_({item.team_id for item in items}),
            or_(
                runs.c.flight_key.in_(wanted),
                *(runs.c.flight_key.startswith(key, autoescape=True) for key in sorted(whole)),
            ),
            HOLDS_FLIGHT,
        )
        for row in tx.conn.execute(query):
            self._remember(row.team_id, row.flight_key, row.id)

    def _remember(self, team_id: UUID, key: str, run_id: UUID) -> None:
        self._by_key[team_id, key] = run_id
        self._by_type[team_id, widest(key)] = run_id

    def holder(self, item: NewRun) -> UUID | None:
        """The active run that stands in the way of this one."""
        key = item.flight_key
        if key is None:
            return None
        if key == widest(key):
            return self._by_type.get((item.team_id, key))
        return self._by_key.get((item.team_id, key)) or self._by_key.get((item.team_id, widest(key)))

    def take(self, item: NewRun) -> None:
        """This one is stored now."""
        if item.flight_key is not None:
            self._remember(item.team_id, item.flight_key, item.id)
