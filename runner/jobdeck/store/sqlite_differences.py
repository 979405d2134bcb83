"""What SQLite does its own way. One writer at a time holds the whole file, so rows need no locks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, FromClause, Select, func, literal, select

from jobdeck.store.schema import runs


@dataclass(frozen=True)
class SqliteDifferences:
    """See `Differences`."""

    name: ClassVar[str] = "sqlite"

    def now(self, conn: Connection, offset_us: int) -> int:
        # All processes of one file share the host, so its clock is the database's clock.
        return time.time_ns() // 1000 + offset_us

    def locked(self, query: Select[Any], *, of: FromClause | None = None, share: bool = False) -> Select[Any]:
        return query

    def unlocked_only(self, query: Select[Any], *of: FromClause) -> Select[Any]:
        return query

    def first_of_each(self, lanes: FromClause, per_lane: Select[Any]) -> Select[Any]:
        # No LATERAL here: a correlated IN does the same, looked up by primary key.
        found = runs.alias("found")
        ids = per_lane.with_only_columns(per_lane.selected_columns["id"]).correlate(lanes).scalar_subquery()
        wanted = [found.c[column.key] for column in per_lane.selected_columns if column.key]
        return select(*wanted).select_from(lanes.join(found, found.c.id.in_(ids)))

    def in_query(self, column: ColumnElement[Any], query: Select[Any]) -> ColumnElement[bool]:
        return column.in_(query)

    def id_ends_with(self, column: ColumnElement[UUID], last: bytes) -> ColumnElement[bool]:
        return func.substr(column, -len(last)) == literal(last)

    def announce(self, conn: Connection, hints: int) -> None:
        """Nothing: other processes are told by datagram, after the commit."""
