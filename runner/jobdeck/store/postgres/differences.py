"""What PostgreSQL does its own way: many writers at once, so rows are locked and locked ones are passed over."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
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
    Text,
    and_,
    any_,
    bindparam,
    cast,
    column,
    func,
    literal,
    literal_column,
    select,
    text,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, asyncpg
from sqlalchemy.dialects.postgresql import insert as postgresql_insert

from jobdeck.store.differences import Change, Given, LockedRows

CHANNEL = "jobdeck"
# So many transactions of one team can commit at the same time, give or take.
_COUNT_SLOTS = 16
_HIGHEST = 2**63 - 1
_NOW = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
# A statement of its own: what it waits for is seen by the next one only.
_EXCLUDE = text(
    "SELECT CASE WHEN whole THEN pg_advisory_xact_lock(key) ELSE pg_advisory_xact_lock_shared(key) END "
    "FROM unnest(CAST(:keys AS bigint[]), CAST(:wholes AS boolean[])) AS wanted(key, whole)"
)


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


@dataclass(frozen=True)
class PostgresDifferences:
    """See `Differences`."""

    name: ClassVar[str] = "postgresql"
    dialect: ClassVar[Dialect] = asyncpg.dialect()  # type: ignore[no-untyped-call]
    driver_knows_ids: ClassVar[bool] = True
    queries_change: ClassVar[bool] = True

    def now(self, conn: Connection, offset_us: int) -> int:
        return int(conn.execute(_NOW).scalar_one()) + offset_us

    def locked(
        self,
        query: Select[Any],
        *,
        by: ColumnElement[Any],
        of: Sequence[FromClause] = (),
    ) -> Select[Any]:
        return query.order_by(by).with_for_update(of=of or None, key_share=True)

    def lock_rows(self, conn: Connection, column: ColumnElement[UUID], ids: Collection[UUID]) -> None:
        if ids:
            wanted = literal(list(ids), ARRAY(column.type))
            conn.execute(self.locked(select(column).where(column == any_(wanted)), by=column))

    def lock_free_rows(self, conn: Connection, column: ColumnElement[UUID], ids: Collection[UUID]) -> bool:
        wanted = literal(list(ids), ARRAY(column.type))
        query = self.unlocked_only(select(column).where(column == any_(wanted)))
        return len(conn.execute(query).all()) == len(ids)

    def exclude(self, conn: Connection, names: Mapping[str, bool]) -> None:
        # In one order, so that two transactions never wait for each other.
        wanted = sorted((_number(name), whole) for name, whole in names.items())
        keys, wholes = zip(*wanted, strict=True)
        conn.execute(_EXCLUDE, {"keys": list(keys), "wholes": list(wholes)})

    def unlocked_only(self, query: Select[Any], *of: FromClause) -> Select[Any]:
        return query.with_for_update(of=of, key_share=True, skip_locked=True)

    def first_of_each(self, lanes: FromClause, per_lane: Select[Any]) -> Select[Any]:
        chosen = per_lane.with_for_update(key_share=True, skip_locked=True).correlate(lanes).lateral("chosen")
        return select(*chosen.c).select_from(lanes.join(chosen, true()))

    def in_query(self, column: ColumnElement[Any], query: Select[Any]) -> ColumnElement[bool]:
        return column == any_(func.array(query.scalar_subquery()))

    def among(self, column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
        return column == any_(bindparam(name, type_=ARRAY(column.type)))

    def insert(self, table: Table) -> Any:
        return postgresql_insert(table)

    def given(self, columns: Sequence[Column[Any]], shared: Collection[Column[Any]]) -> Given:
        many = [c for c in columns if c not in shared]
        arrays = [bindparam(c.name, type_=ARRAY(c.type)) for c in many]
        names = [column(c.name, c.type) for c in many]
        unnested = func.unnest(*arrays).table_valued(*names).render_derived(name="unnested")
        source = select(*unnested.c).cte("given")
        values = {
            c.name: bindparam(c.name, type_=c.type) if c in shared else source.c[c.name] for c in columns
        }
        return Given(source, values, true(), columns[0])

    def hold(self, given: Given) -> LockedRows:
        key = given.key
        held = self.locked(select(key.table).where(self.in_query(key, given.keys)), by=key).cte("held")
        key_held = held.c[key.name]
        return LockedRows(held, select(key_held), key_held == given.values[key.name])

    def together(self, statements: Sequence[Change]) -> Sequence[Change]:
        *others, last = statements
        for number, other in enumerate(others):
            last = last.add_cte(other.cte(f"change_{number}"))
        return [last]

    def execute_given(
        self,
        conn: Connection,
        sql: str,
        order: Sequence[str],
        many: Mapping[str, Sequence[Any]],
        single: Mapping[str, Any],
    ) -> None:
        self.execute(conn, sql, [many[name] if name in many else single[name] for name in order])

    def session_user(self) -> ColumnElement[str]:
        return cast(literal_column("session_user"), Text)

    def owner(self, conn: Connection) -> str | None:
        return None

    def count_slot(self) -> int:
        return random.randrange(_COUNT_SLOTS)

    def execute(self, conn: Connection, sql: str, bound: Sequence[Any]) -> Sequence[Sequence[Any]]:
        result = conn.exec_driver_sql(sql, tuple(bound))
        return result.fetchall() if result.returns_rows else ()

    def id_to_driver(self, value: UUID) -> UUID:
        return value

    def id_from_driver(self, value: UUID) -> UUID:
        return value

    def few(self, condition: ColumnElement[bool]) -> ColumnElement[bool]:
        return condition

    def after(self, first: Column[Any], second: Column[Any], value: Any, key: int) -> ColumnElement[bool]:
        # As a range: with an equality the planner thinks that the key alone, in whose order they are wanted, finds
        # them soon, and reads through the rows of all others.
        bounds = [tuple_(literal(value, first.type), literal(at, second.type)) for at in (key, _HIGHEST)]
        return and_(tuple_(first, second) > bounds[0], tuple_(first, second) <= bounds[1])

    def contains(self, column: ColumnElement[str], part: str) -> ColumnElement[bool]:
        return column.icontains(part, autoescape=True)
