"""Lanes: what is ready stands in one for each team, queue, job type, gate and priority.

A loose index scan finds the lanes without touching what waits in them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Integer,
    ScalarSelect,
    Select,
    bindparam,
    func,
    literal_column,
    select,
)

from jobdeck.states import Status
from jobdeck.store.columns import word
from jobdeck.store.differences import Differences
from jobdeck.store.schema import runs

NOW: Final[ColumnElement[int]] = bindparam("now", type_=BigInteger)
"""The database's clock."""
MOST: Final[ColumnElement[int]] = bindparam("most", type_=Integer)
"""How many runs of each lane are looked at."""
LANE: Final = ("team_id", "queue", "job_type", "gate", "priority")
_ORDER: Final = ("id", "team_id", "priority", "due_at")
_PENDING: Final[ColumnElement[str]] = word(Status.PENDING)


def heads(
    differences: Differences,
    *,
    some_queues: bool,
    only: Callable[[FromClause], Sequence[ColumnElement[bool]]],
) -> FromClause:
    """The lanes that this worker may serve and that have something due, of those for which `only` holds."""
    first, previous, head = (runs.alias(name) for name in ("first", "previous", "head"))
    lanes = select(_earliest(first).label("id")).cte("lanes", recursive=True)
    step = _first_of_next_lane(previous)
    lanes = lanes.union_all(select(step).select_from(lanes.join(previous, previous.c.id == lanes.c.id)))
    query = (
        select(*_lane(head))
        .select_from(lanes.join(head, head.c.id == lanes.c.id))
        .where(head.c.due_at <= NOW, differences.among(head.c.job_type, "job_types"), *only(head))
    )
    if some_queues:
        query = query.where(differences.among(head.c.queue, "queues"))
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
