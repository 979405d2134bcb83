"""What the two databases do differently, as capabilities; everything else is written once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol
from uuid import UUID

from sqlalchemy import Column, ColumnElement, Connection, Dialect, FromClause, Insert, Select, Table, Update


@dataclass(frozen=True, slots=True)
class Given:
    """Rows to be written: for each column what stands for its value, and where arrays are unnested, from what."""

    table: Table
    values: Mapping[str, ColumnElement[Any]]
    source: FromClause | None = None

    def changes(self, keys: Sequence[Column[Any]], adds: Column[Any] | None) -> dict[str, ColumnElement[Any]]:
        """The values of all columns but the keys."""
        names = {key.name for key in keys}
        changed = {name: value for name, value in self.values.items() if name not in names}
        if adds is not None:
            changed[adds.name] = adds + changed[adds.name]
        return changed


class Differences(Protocol):
    """Implemented once for SQLite and once for PostgreSQL."""

    name: ClassVar[str]
    dialect: ClassVar[Dialect]
    driver_knows_ids: ClassVar[bool]
    """Whether the driver takes and gives UUIDs as they are."""

    def __hash__(self) -> int:
        """Statements are built once for each database and kept by this key."""

    def now(self, conn: Connection, offset_us: int) -> int:
        """The database's clock in microseconds UTC, moved by a test-only offset."""

    def locked(
        self,
        query: Select[Any],
        *,
        by: ColumnElement[Any],
        of: FromClause | None = None,
    ) -> Select[Any]:
        """`query` with row locks (on the table `of`), where writers do not exclude each other anyway.

        Rows are locked in the order `by` everywhere, so that two transactions never wait for each other.
        """

    def lock_rows(self, conn: Connection, column: ColumnElement[UUID], ids: Collection[UUID]) -> None:
        """Lock the rows whose `column`, a primary key, is one of `ids`, in the order of the ids."""

    def unlocked_only(self, query: Select[Any], *of: FromClause) -> Select[Any]:
        """`query` with row locks on the tables `of`, leaving out rows that another transaction has locked."""

    def first_of_each(self, lanes: FromClause, per_lane: Select[Any]) -> Select[Any]:
        """What `per_lane`, a query of runs that refers to `lanes`, finds for every row of `lanes`.

        Locks what it returns and leaves out what others have locked, where writers do not exclude each other.
        """

    def in_query(self, column: ColumnElement[Any], query: Select[Any]) -> ColumnElement[bool]:
        """`column IN (query)`, in the form that evaluates the query once."""

    def among(self, column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
        """`column IN (the list that is bound to name)`, in the form that is compiled once for every length."""

    takes_arrays: ClassVar[bool]
    """Whether many rows go in one statement, as an array for each column."""

    def given(self, columns: Sequence[Column[Any]], shared: Collection[Column[Any]]) -> Given:
        """The rows to be written, as parameters named by the columns; `shared` ones are single values."""

    def insert_rows(self, given: Given) -> Insert:
        """New rows."""

    def update_rows(
        self,
        given: Given,
        keys: Sequence[Column[Any]],
        guard: ColumnElement[bool],
        adds: Column[Any] | None,
    ) -> Update:
        """Changes of the rows that `keys` name; the value of `adds` is added to its own."""

    def insert_or_add_rows(
        self, given: Given, keys: Sequence[Column[Any]], adds: Column[Any] | None
    ) -> Insert:
        """New rows; where `keys` name one that is there, the value of `adds` is added to its own."""

    def count_slot(self) -> int:
        """Which of several rows of a counter a transaction adds to."""

    def execute(self, conn: Connection, sql: str, bound: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """Run compiled text; its rows."""

    def execute_many(self, conn: Connection, sql: str, columns: Sequence[Sequence[Any]]) -> None:
        """Run what `insert_rows` or `update_rows` has become, with the values of each column in its order."""

    def id_to_driver(self, value: UUID) -> Any:
        """What the driver is given for an id."""

    def id_from_driver(self, value: Any) -> UUID:
        """The id that the driver has given."""

    def few(self, condition: ColumnElement[bool]) -> ColumnElement[bool]:
        """The condition; the planner is told that it holds for few rows, whatever it thinks."""

    def after(self, first: Column[Any], second: Column[Any], value: Any, key: int) -> ColumnElement[bool]:
        """`first = value AND second > key`, in the form that reads along the index of both columns."""

    def contains(self, column: ColumnElement[str], part: str) -> ColumnElement[bool]:
        """Whether a text has `part` in it, capital or small."""
