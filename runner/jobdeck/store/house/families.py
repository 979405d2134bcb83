"""Runs that belong together: parents and children, what continues what, who waited for whom, who started whom."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Select, or_, select, union_all

from jobdeck.states import ACTIVE
from jobdeck.store.pieces import pieces
from jobdeck.store.schema import outbox, run_parents, run_waits, runs
from jobdeck.store.schema.outbox import DUE

# As many as one batch of runs can make at once. A family that is larger than all that a look takes in is held together
# by what is nearest.
_MOST: Final = 10_000
_ACTIVE: Final = sorted(ACTIVE)


def held_by_family(conn: Connection, ids: Collection[UUID]) -> set[UUID]:
    """Those of these runs that must stay: active, pinned or still to be told of, or together with one that is.

    Over however many others they belong together.
    """
    near: defaultdict[UUID, set[UUID]] = defaultdict(set)
    seen, fresh = set(ids), set(ids)
    while fresh and len(seen) < _MOST:
        found: set[UUID] = set()
        for one, other in _links(conn, fresh):
            near[one].add(other)
            near[other].add(one)
            found |= {one, other}
        fresh = found - seen
        seen |= fresh
    holders = set(_holders(conn, seen))
    return _reached(near, holders) & set(ids)


def _reached(near: dict[UUID, set[UUID]], start: set[UUID]) -> set[UUID]:
    reached, fresh = set(start), set(start)
    while fresh:
        fresh = {other for one in fresh for other in near.get(one, ())} - reached
        reached |= fresh
    return reached


def _links(conn: Connection, ids: Collection[UUID]) -> Iterator[tuple[UUID, UUID]]:
    for some in pieces(ids):
        for row in conn.execute(union_all(*_queries(some)).limit(_MOST)):
            yield row[0], row[1]


def _queries(ids: Collection[UUID]) -> Iterator[Select[Any]]:
    for column in (runs.c.parent_run_id, runs.c.continuation_of):
        yield select(runs.c.id, column).where(runs.c.id.in_(ids), column.is_not(None))
        yield select(runs.c.id, column).where(column.in_(ids))
    for waits in (run_waits.c.run_id, run_waits.c.on_id):
        yield select(run_waits.c.run_id, run_waits.c.on_id).where(waits.in_(ids))
    for started in (run_parents.c.run_id, run_parents.c.parent_run_id):
        yield select(run_parents.c.run_id, run_parents.c.parent_run_id).where(started.in_(ids))


def _holders(conn: Connection, ids: Collection[UUID]) -> Iterator[UUID]:
    for some in pieces(ids):
        holds = or_(runs.c.status.in_(_ACTIVE), runs.c.pinned)
        yield from conn.execute(select(runs.c.id).where(runs.c.id.in_(some), holds)).scalars()
        yield from conn.execute(select(outbox.c.run_id).where(outbox.c.run_id.in_(some), DUE)).scalars()
