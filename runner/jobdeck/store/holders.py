"""Active runs that hold a key, of which there may be one, and one more that is next: single flight, and dedupe keys.

The key of a single flight is `project:type:digest`. Who cannot narrow it (the handler's package is not installed there)
leaves the digest empty: that widest key stands against every key of the type, and every key against it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, and_, or_, select

from jobdeck.model import NewRun
from jobdeck.store.schema import HOLDS_DEDUPE, HOLDS_FLIGHT, runs
from jobdeck.store.transaction import Tx


def widest(key: str) -> str:
    """The key of a single flight without its digest."""
    return key.rpartition(":")[0] + ":"


def hold_flights(tx: Tx, wanted: Iterable[tuple[UUID, str]]) -> None:
    """Let nobody else take a wider or narrower key than these (team, key) until the transaction has ended.

    The same key taken twice meets a constraint; a key and the widest one do not.
    """
    names: dict[str, bool] = {}
    for team_id, key in wanted:
        name = f"{team_id.hex}:{widest(key)}"
        names[name] = names.get(name, False) or key == widest(key)
    if names:
        tx.differences.exclude(tx.conn, names)


def stands_against(key: str) -> ColumnElement[bool]:
    """Active runs whose key is this one, the widest that covers it, or any that it covers."""
    same = or_(runs.c.flight_key == key, runs.c.flight_key == widest(key))
    covered = runs.c.flight_key.startswith(key, autoescape=True) if key == widest(key) else same
    return and_(covered, HOLDS_FLIGHT)


class Holder(NamedTuple):
    """An active run that stands in the way of a new one."""

    id: UUID
    key: tuple[UUID, str]


class Holders:
    """The active runs that stand in the way of some new ones; grows with those that are stored meanwhile."""

    def __init__(self, tx: Tx, items: Sequence[NewRun]) -> None:
        self._flights: dict[tuple[UUID, str], dict[UUID, Holder]] = defaultdict(dict)
        self._dedupes: dict[tuple[UUID, str], dict[UUID, Holder]] = defaultdict(dict)
        self._find_flights(tx, [item for item in items if item.flight_key is not None])
        self._find_dedupes(tx, [item for item in items if dedupe_of(item) is not None])

    def _find_flights(self, tx: Tx, items: Sequence[NewRun]) -> None:
        if not items:
            return
        hold_flights(tx, ((item.team_id, str(item.flight_key)) for item in items))
        keys = {str(item.flight_key) for item in items}
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
        for row in tx.conn.execute(query.order_by(runs.c.behind)):
            self._hold_flight(row.team_id, row.flight_key, row.id)

    def _find_dedupes(self, tx: Tx, items: Sequence[NewRun]) -> None:
        if not items:
            return
        query = select(runs.c.team_id, runs.c.job_type, runs.c.dedupe_key, runs.c.id).where(
            runs.c.team_id.in_({item.team_id for item in items}),
            runs.c.job_type.in_({item.job_type for item in items}),
            runs.c.dedupe_key.in_({dedupe_of(item) for item in items}),
            HOLDS_DEDUPE,
        )
        for row in tx.conn.execute(query.order_by(runs.c.behind)):
            self._hold_dedupe(row.team_id, row.job_type, row.dedupe_key, row.id)

    def _hold_flight(self, team_id: UUID, key: str, run_id: UUID) -> None:
        holder = Holder(run_id, (team_id, key))
        self._flights[team_id, key][run_id] = holder
        if key != widest(key):
            self._flights[team_id, "*" + widest(key)][run_id] = holder

    def _hold_dedupe(self, team_id: UUID, job_type: str, key: str, run_id: UUID) -> None:
        place = (team_id, f"{job_type}\n{key}")
        self._dedupes[place][run_id] = Holder(run_id, place)

    def in_flight(self, item: NewRun) -> list[Holder]:
        """Active runs that stand in the way by single flight; first the one that holds the key."""
        key = item.flight_key
        if key is None:
            return []
        found = [*self._flights.get((item.team_id, key), {}).values()]
        other = "*" + key if key == widest(key) else widest(key)
        return [*found, *self._flights.get((item.team_id, other), {}).values()]

    def of_dedupe_key(self, item: NewRun) -> list[Holder]:
        """Active runs with the same dedupe key; first the one that holds it."""
        key = dedupe_of(item)
        return (
            []
            if key is None
            else [*self._dedupes.get((item.team_id, f"{item.job_type}\n{key}"), {}).values()]
        )

    def take(self, item: NewRun) -> None:
        """This one is stored now."""
        if item.flight_key is not None:
            self._hold_flight(item.team_id, item.flight_key, item.id)
        if (key := dedupe_of(item)) is not None:
            self._hold_dedupe(item.team_id, item.job_type, key, item.id)

    def forget(self, run_id: UUID) -> None:
        """This one is active no more."""
        for held in (*self._flights.values(), *self._dedupes.values()):
            held.pop(run_id, None)


def dedupe_of(item: NewRun) -> str | None:
    """The dedupe key of a run, where it stands while a run is active."""
    extras = item.extras
    return extras.dedupe_key if extras is not None and extras.dedupe_window is None else None
