"""What SQLite does its own way. One writer at a time holds the whole file, so rows need no locks."""

from __future__ import annotations

import os
import pwd
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Dialect,
    FromClause,
    Select,
    Table,
    and_,
    bindparam,
    column,
    func,
    literal_column,
    select,
    table,
)
from sqlalchemy.dialects import sqlite

from jobdeck.store.columns import id_of, word
from jobdeck.store.differences import Change, Given, LockedRows, padded
from jobdeck.store.schema import runs

_GIVEN = "given"
_ROWS_AT_ONCE = 128
_BYTES_AT_ONCE = 262_144
# The ids of teams, projects and workers come again and again, and to make a UUID costs more than to read its row.
_id = lru_cache(4_096)(id_of)


@dataclass(frozen=True)
class SqliteDifferences:
    """See `Differences`."""

    name: ClassVar[str] = "sqlite"
    dialect: ClassVar[Dialect] = sqlite.dialect()
    driver_knows_ids: ClassVar[bool] = False
    queries_change: ClassVar[bool] = False

    def now(self, conn: Connection, offset_us: int) -> int:
        # All processes of one file share the host, so its clock is the database's clock.
        return time.time_ns() // 1000 + offset_us

    def locked(
        self,
        query: Select[Any],
        *,
        by: ColumnElement[Any],
        of: Sequence[FromClause] = (),
    ) -> Select[Any]:
        return query

    def lock_rows(self, conn: Connection, column: ColumnElement[UUID], ids: Collection[UUID]) -> None:
        return None

    def lock_free_rows(self, conn: Connection, column: ColumnElement[UUID], ids: Collection[UUID]) -> bool:
        return True

    def exclude(self, conn: Connection, names: Mapping[str, bool]) -> None:
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

    def insert(self, table: Table) -> Any:
        return sqlite.insert(table)

    def given(self, columns: Sequence[Column[Any]], shared: Collection[Column[Any]]) -> Given:
        source = table(_GIVEN, *(column(c.name, c.type) for c in columns if c not in shared))
        values = {
            c.name: bindparam(c.name, type_=c.type) if c in shared else source.c[c.name] for c in columns
        }
        return Given(source, values, source.c[columns[0].name].is_not(None), columns[0])

    def hold(self, given: Given) -> LockedRows:
        return LockedRows(given.key.table, given.keys, given.key == given.values[given.key.name])

    def together(self, statements: Sequence[Change]) -> Sequence[Change]:
        return statements

    def execute_given(
        self,
        conn: Connection,
        sql: str,
        order: Sequence[str],
        many: Mapping[str, Sequence[Any]],
        single: Mapping[str, Any],
    ) -> None:
        used = {name: many[name] for name in _used(sql, tuple(many))}
        size, step = len(next(iter(used.values()))), _step(used)
        for start in range(0, size, step):
            rows = list(
                chain.from_iterable(zip(*(each[start : start + step] for each in used.values()), strict=True))
            )
            places = padded(min(step, size - start))
            rows += [None] * (places * len(used) - len(rows))
            bound = rows + [single[name] for name in order]
            self.execute(conn, _given_rows(tuple(used), places) + sql, bound)

    def session_user(self) -> ColumnElement[str]:
        return word(_user_name(os.getuid()).replace("'", "''"))

    def owner(self, conn: Connection) -> str | None:
        file = next(
            (row[2] for row in self.execute(conn, "PRAGMA database_list", ()) if row[1] == "main"), ""
        )
        return _user_name(Path(file).stat().st_uid) if file else None

    def count_slot(self) -> int:
        return 0

    def execute(self, conn: Connection, sql: str, bound: Sequence[Any]) -> Sequence[Sequence[Any]]:
        found: list[Sequence[Any]] = _driver(conn).execute(sql, bound).fetchall()
        return found

    def id_to_driver(self, value: UUID) -> bytes:
        return value.bytes

    def id_from_driver(self, value: bytes) -> UUID | None:
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


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid-{uid}"


@lru_cache(512)
def _used(sql: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """The given columns that a statement uses: the first one stands in the condition of each."""
    # A name that is a word of SQL, like "after", stands in quotes.
    return tuple(name for name in names if re.search(rf'\b{_GIVEN}\."?{name}\b', sql))


def _step(given: Mapping[str, Sequence[Any]]) -> int:
    """How many rows go into one statement.

    The driver keeps statements with what they were given last, so neither many nor large rows may go into one.
    """
    texts = (value for values in given.values() for value in values if isinstance(value, str))
    return max(1, min(_ROWS_AT_ONCE, _BYTES_AT_ONCE // max(map(len, texts), default=1)))


@lru_cache(512)
def _given_rows(names: tuple[str, ...], size: int) -> str:
    places = "(" + ", ".join("?" * len(names)) + ")"
    return f"WITH {_GIVEN}({', '.join(names)}) AS (VALUES {', '.join([places] * size)}) "


def _driver(conn: Connection) -> Any:
    """The driver's own connection, in whose transaction `conn` is."""
    return conn.connection.dbapi_connection
