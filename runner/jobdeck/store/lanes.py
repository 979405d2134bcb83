"""Lanes: what is ready stands in one for each team, queue, job type, gate and priority.

A loose index scan finds the lanes without touching what waits in them. Which of them are for whom: workers take what
they are asked to serve, but never from a pull queue; programs take from pull queues.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    ScalarSelect,
    Select,
    bindparam,
    exists,
    func,
    literal_column,
    select,
)

from jobdeck.states import Status
from jobdeck.store.columns import word
from jobdeck.store.differences import Differences
from jobdeck.store.schema import queues, runs

NOW: Final[ColumnElement[int]] = bindparam("now", type_=BigInteger)
"""The database's clock."""
MOST: Final[ColumnElement[int]] = bindparam("most", type_=Integer)
"""How many runs of each lane are looked at."""
LANE: Final = ("team_id", "queue", "job_type", "gate", "priority")
_ORDER: Final = ("id", "team_id", "priority", "due_at")
_PENDING: Final[ColumnElement[str]] = word(Status.PENDING)


Wanted: TypeAlias = Callable[[Differences, FromClause], Sequence[ColumnElement[bool]]]
"""Conditions on the first run of a lane."""


def served(differences: Differences, head: FromClause) -> Sequence[ColumnElement[bool]]:
    """Lanes for a worker that serves every queue: of its types, and not in a pull queue."""
    return differences.among(head.c.job_type, "job_types"), ~is_pulled(head)


def served_in_queues(differences: Differences, head: FromClause) -> Sequence[ColumnElement[bool]]:
    """Lanes for a worker that serves some queues."""
    return *served(differences, head), differences.among(head.c.queue, "queues")


def pulled(differences: Differences, head: FromClause) -> Sequence[ColumnElement[bool]]:
    """Lanes of a pull queue, for a program that claims from it."""
    of_team = head.c.team_id == bindparam("team", type_=runs.c.team_id.type)
    return of_team, differences.among(head.c.queue, "queues")


KINDS: Final[tuple[Wanted, ...]] = (served, served_in_queues, pulled)
"""For each of them there is a statement of its own."""


def is_pulled(table: FromClause) -> ColumnElement[bool]:
    """Whether a run is in a pull queue, which workers leave alone."""
    return exists().where(queues.c.team_id == table.c.team_id, queues.c.name == table.c.queue, queues.c.pull)


def pull_queues(conn: Connection, team_id: UUID) -> frozenset[str]:
    """The names of the team's pull queues."""
    query = select(queues.c.name).where(queues.c.team_id == team_id, queues.c.pull)
    return frozenset(conn.execute(query).scalars())


def heads(differences: Differences, wanted: Wanted, *more: Wanted) -> FromClause:
    """The first run of each lane that has something due and that all conditions hold for."""
    first, previous, head = (runs.alias(name) for name in ("first", "previous", "head"))
    lanes = select(_earliest(first).label("id")).cte("lanes", recursive=True)
    step = _first_of_next_lane(previous)
    lanes = lanes.union_all(select(step).select_from(lanes.join(previous, previous.c.id == lanes.c.id)))
    query = (
        select(*_lane(head))
        .select_from(lanes.join(head, head.c.id == lanes.c.id))
        .where(head.c.due_at <= NOW, *wanted(differences, head))
    )
    for conditions in more:
        query = query.where(*conditions(differences, head))
    return query.subquery("heads")


def candidates(differences: Differences, lanes: FromClause, *more: str) -> Select[Any]:
    """The first due runs of each lane: id, team, priority, due time and `more` columns. They are locked."""
    waiting = runs.alias("waiting")
    per_lane = (
        select(*(waiting.c[name] for name in (*_ORDER, *more)))
        .where(
            *(waiting.c[name] == lanes.c[name] for name in LANE),
            *ready(waiting),
            waiting.c.due_at <= NOW,
            (waiting.c.expires_at.is_(None)) | (waiting.c.expires_at > NOW),
        )
        .order_by(waiting.c.due_at, waiting.c.id)
        .limit(MOST)
    )
    return differences.first_of_each(lanes, per_lane)


def _first_of_next_lane(previous: FromClause) -> ColumnElement[Any]:
    """The first run after the lane of `previous`: of the next priority, else of the next job type, and so on.

    Not by comparing whole rows, `(team, queue, …) > (…)`: SQLite looks up the lane's first run for that and then reads
    all that wait in it.
    """
    found = []
    for depth in range(len(LANE) - 1, -1, -1):
        table = runs.alias(f"next_{LANE[depth]}")
        same = [table.c[name] == previous.c[name] for name in LANE[:depth]]
        found.append(_earliest(table, *same, table.c[LANE[depth]] > previous.c[LANE[depth]]))
    return func.coalesce(*found)


def _earliest(table: FromClause, *conditions: ColumnElement[bool]) -> ScalarSelect[Any]:
    """The first pending run in the order of lanes and due times."""
    return (
        select(table.c.id)
        .where(*ready(table), *conditions)
        .order_by(*_lane(table), table.c.due_at, table.c.id)
        .limit(1)
        .scalar_subquery()
    )


def ready(table: FromClause) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Pending, and blocked by nothing: what the index of lanes holds."""
    return table.c.status == _PENDING, table.c.blocked == literal_column("0")


def _lane(table: FromClause) -> list[ColumnElement[Any]]:
    return [table.c[name] for name in LANE]
