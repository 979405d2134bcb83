"""What PostgreSQL does its own way: many writers at once, so rows are locked and locked ones are passed over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    LargeBinary,
    Select,
    any_,
    func,
    literal,
    select,
    text,
    true,
)

CHANNEL = "jobdeck"
_NOTIFY = text("SELECT pg_notify(:channel, :hints)")
_NOW = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")


@dataclass(frozen=True)
class PostgresDifferences:
    """See `Differences`."""

    name: ClassVar[str] = "postgresql"

    def now(self, conn: Connection, offset_us: int) -> int:
        return int(conn.execute(_NOW).scalar_one()) + offset_us

    def locked(self, query: Select[Any], *, of: FromClause | None = None, share: bool = False) -> Select[Any]:
        return query.with_for_update(of=of, read=share)

    def unlocked_only(self, query: Select[Any], *of: FromClause) -> Select[Any]:
        return query.with_for_update(of=of, skip_locked=True)

    def first_of_each(self, lanes: FromClause, per_lane: Select[Any]) -> Select[Any]:
        chosen = per_lane.with_for_update(skip_locked=True).correlate(lanes).lateral("chosen")
        return select(*chosen.c).select_from(lanes.join(chosen, true()))

    def in_query(self, column: ColumnElement[Any], query: Select[Any]) -> ColumnElement[bool]:
        return column == any_(func.array(query.scalar_subquery()))

    def id_ends_with(self, column: ColumnElement[UUID], last: bytes) -> ColumnElement[bool]:
        return func.substring(func.uuid_send(column), 17 - len(last)) == literal(last, LargeBinary)

    def announce(self, conn: Connection, hints: int) -> None:
        conn.execute(_NOTIFY, {"channel": CHANNEL, "hints": str(hints)})
