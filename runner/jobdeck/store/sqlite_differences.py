"""What SQLite does its own way. One writer at a time holds the whole file, so rows need no locks."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Dialect,
    FromClause,
    Insert,
    Select,
    Update,
    and_,
    bindparam,
    func,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import sqlite

from jobdeck.store.differences import Given
from jobdeck.store.schema import runs

# The ids of teams, projects and workers come again and again, and to make a UUID costs more than to read its row.
_id = lru_cache(4_096)(lambda value: UUID(bytes=value))


@dataclass(frozen=True)
class SqliteDifferences:
    """See `Differences`."""

    name: ClassVar[str] = "sqlite"
    dialect: ClassVar[Dialect] = sqlite.dialect()
    takes_arrays: ClassVar[bool] = False
    driver_knows_ids: ClassVar[bool] = False

    def now(self, conn: Connection, offset_us: int) -> int:
        # All processes of one file share the host, so its clock is the database's clock.
        return time.time_ns() // 1000 + offset_us

    def locked(
        self,
        query: Select[Any],
        *,
        by: ColumnElement[Any],
        of: FromClause | None = None,
    ) -> Select[Any]:
        return query

    def lock_rows(self, conn: Connection, column: ColumnElement[UUID], ids: Collection[UUID]) -> None:
        return None

    def unlocked_only(self, query: Select[Any], *of: FromClause) -> Select[Any]:
        return query

    def first_of_each(self, lanes: FromClause, per_lane: Select[Any]) -> Select[Any]:
        # No LATERAL here: a correlated IN does the same, looked up by primary key. The outer join keeps the lanes in
        # front, where statistics may make the planner begin with all runs there are; rows of lanes that have none are
        # dropped by a condition that it does not see through, or the join would be an inner one again.
        found = runs.alias("found")
        ids = per_lane.with_only_columns(per_lane.selected_columns["id"]).correlate(lanes).scalar_subquery()
        wanted = [found.c[column.key] for column in per_lane.selected_columns if column.key]
        none: ColumnElement[Any] = literal_column("x''")
        any_found = func.coalesce(found.c.id, none) != none
        return select(*wanted).select_from(lanes.outerjoin(found, found.c.id.in_(ids))).where(any_found)

    def in_query(self, column: ColumnElement[Any], query: Select[Any]) -> ColumnElement[bool]:
        return column.in_(query)

    def among(self, column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
        return column.in_(bindparam(name, type_=column.type, expanding=True))

    def given(self, columns: Sequence[Column[Any]], shared: Collection[Column[Any]]) -> Given:
        return Given(columns[0].table, {c.name: bindparam(c.name, type_=c.type) for c in columns})

    def insert_rows(self, given: Given) -> Insert:
        return insert(given.table).values(dict(given.values))

    def update_rows(
        self,
        given: Given,
        keys: Sequence[Column[Any]],
        guard: ColumnElement[bool],
        adds: Column[Any] | None,
    ) -> Update:
        named = [key == given.values[key.name] for key in keys]
        return update(given.table).where(*named, guard).values(given.changes(keys, adds))

    def insert_or_add_rows(
        self, given: Given, keys: Sequence[Column[Any]], adds: Column[Any] | None
    ) -> Insert:
        new = sqlite.insert(given.table).values(dict(given.values))
        if adds is None:
            return new.on_conflict_do_nothing(index_elements=list(keys))
        grown = {adds.name: adds + new.excluded[adds.name]}
        return new.on_conflict_do_update(index_elements=list(keys), set_=grown)

    def count_slot(self) -> int:
        return 0

    def execute(self, conn: Connection, sql: str, bound: Sequence[Any]) -> Sequence[Sequence[Any]]:
        found: list[Sequence[Any]] = _driver(conn).execute(sql, bound).fetchall()
        return found

    def execute_many(self, conn: Connection, sql: str, columns: Sequence[Sequence[Any]]) -> None:
        _driver(conn).executemany(sql, zip(*columns, strict=True))

    def id_to_driver(self, value: UUID) -> bytes:
        return value.bytes

    def id_from_driver(self, value: bytes) -> UUID:
        return _id(value)

    def few(self, condition: ColumnElement[bool]) -> ColumnElement[bool]:
        # Where statistics say otherwise, the index of the condition may not be used; which then depends on the order
        # in which the indexes were made.
        return func.likelihood(condition, literal_column("0.0001"))

    def after(self, first: Column[Any], second: Column[Any], value: Any, key: int) -> ColumnElement[bool]:
        return and_(self.few(first == value), second > key)

    def contains(self, column: ColumnElement[str], part: str) -> ColumnElement[bool]:
        # LIKE itself takes no notice of case, but only in ASCII; `lower` is Python's, and three times as slow.
        if part.isascii():
            return column.contains(part, autoescape=True)
        return func.lower(column).contains(part.lower(), autoescape=True)


def _driver(conn: Connection) -> Any:
    """The driver's own connection, in whose transaction `conn` is."""
    return conn.connection.dbapi_connection
