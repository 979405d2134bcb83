"""What the two databases do differently, as capabilities; everything else is written once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias
from uuid import UUID

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Delete,
    Dialect,
    FromClause,
    Insert,
    Select,
    Table,
    Update,
    select,
)

Change: TypeAlias = Insert | Update | Delete


def padded(size: int) -> int:
    """The next power of two: lists are filled up to it where every length is a statement of its own."""
    return 1 << max(size - 1, 0).bit_length()


@dataclass(frozen=True, slots=True)
class Given:
    """Rows given to a statement: where they stand, and for each column what stands for its value."""

    source: FromClause
    values: Mapping[str, ColumnElement[Any]]
    present: ColumnElement[bool]
    """Holds for the rows that are meant; there may be spare ones."""
    key: Column[Any]
    """The first column."""

    def select(self, *columns: ColumnElement[Any]) -> Select[Any]:
        """A query of the rows."""
        return select(*columns).select_from(self.source).where(self.present)

    @property
    def keys(self) -> Select[Any]:
        """The values of the first column."""
        return self.select(self.source.c[self.key.name])


@dataclass(frozen=True, slots=True)
class LockedRows:
    """Rows of a table that belong to given ones, by their key; nobody else changes them any more."""

    rows: FromClause
    keys: Select[Any]
    belongs: ColumnElement[bool]
    """That a row is the one of a given row."""


class Differences(Protocol):
    """Implemented once for SQLite and once for PostgreSQL."""

    name: ClassVar[str]
    dialect: ClassVar[Dialect]
    driver_knows_ids: ClassVar[bool]
    """Whether the driver takes and gives UUIDs as they are."""
    queries_change: ClassVar[bool]
    """Whether a query may change rows in its WITH."""

    def __hash__(self) -> int:
        """Statements are built once for each database and kept by this key."""

    def now(self, conn: Connection, offset_us: int) -> int:
        """The database's clock in microseconds UTC, moved by a test-only offset."""

    def locked(
        self,
        query: Select[Any],
        *,
        by: ColumnElement[Any],
        of: Sequence[FromClause] = (),
    ) -> Select[Any]:
        """`query` with row locks (on the tables `of`), where writers do not exclude each other anyway.

        Rows are locked in the order `by` everywhere, so that two transactions never wait for each other.
        """

    def lock_rows(self, conn: Connection, column: ColumnElement[UUID], ids: Collection[UUID]) -> None:
        """Lock the rows whose `column`, a primary key, is one of `ids`, in the order of the ids."""

    def lock_free_rows(self, conn: Connection, column: ColumnElement[UUID], ids: Collection[UUID]) -> bool:
        """As `lock_rows`, but waits for nobody: False where others have locked some of the rows."""

    def exclude(self, conn: Connection, names: Mapping[str, bool]) -> None:
        """Until the transaction has ended keep others from these names: all others (True), or those that want to keep
        all others from them (False). For what no constraint can say, where writers do not exclude each other anyway.
        """

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

    def insert(self, table: Table) -> Any:
        """An INSERT that knows ON CONFLICT."""

    def given(self, columns: Sequence[Column[Any]], shared: Collection[Column[Any]]) -> Given:
        """Rows to be given as parameters named by the columns; `shared` ones are single values."""

    def hold(self, given: Given) -> LockedRows:
        """The rows of the table of the first column, its key, locked in the order of their keys."""

    def together(self, statements: Sequence[Change]) -> Sequence[Change]:
        """The statements, which all use the same given rows; as one, where the database can do that.

        None may need what another one does.
        """

    def execute_given(
        self,
        conn: Connection,
        sql: str,
        order: Sequence[str],
        many: Mapping[str, Sequence[Any]],
        single: Mapping[str, Any],
    ) -> None:
        """Run compiled text with given rows: `many` by columns, and what all share; `order` is that of its places."""

    def session_user(self) -> ColumnElement[str]:
        """Who has the database open, in the words of the database or the operating system."""

    def owner(self, conn: Connection) -> str | None:
        """Whose the database is, where the operating system tells; a server's belongs to no person."""

    def count_slot(self) -> int:
        """Which of several rows of a counter a transaction adds to."""

    def execute(self, conn: Connection, sql: str, bound: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """Run compiled text; its rows."""

    def id_to_driver(self, value: UUID) -> Any:
        """What the driver is given for an id."""

    def id_from_driver(self, value: Any) -> UUID | None:
        """The id that the driver has given."""

    def few(self, condition: ColumnElement[bool]) -> ColumnElement[bool]:
        """The condition; the planner is told that it holds for few rows, whatever it thinks."""

    def after(self, first: Column[Any], second: Column[Any], value: Any, key: int) -> ColumnElement[bool]:
        """`first = value AND second > key`, in the form that reads along the index of both columns."""

    def contains(self, column: ColumnElement[str], part: str) -> ColumnElement[bool]:
        """Whether a text has `part` in it, capital or small."""
