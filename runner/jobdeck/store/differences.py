"""What the two databases do differently, as capabilities; everything else is written once."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, FromClause, Select


class Differences(Protocol):
    """Implemented once for SQLite and once for PostgreSQL."""

    name: ClassVar[str]

    def __hash__(self) -> int:
        """Statements are built once for each database and kept by this key."""

    def now(self, conn: Connection, offset_us: int) -> int:
        """The database's clock in microseconds UTC, moved by a test-only offset."""

    def locked(self, query: Select[Any], *, of: FromClause | None = None, share: bool = False) -> Select[Any]:
        """`query` with row locks, where writers do not exclude each other anyway."""

    def unlocked_only(self, query: Select[Any], *of: FromClause) -> Select[Any]:
        """`query` with row locks on the tables `of`, leaving out rows that another transaction has locked."""

    def first_of_each(self, lanes: FromClause, per_lane: Select[Any]) -> Select[Any]:
        """What `per_lane`, a query of runs that refers to `lanes`, finds for every row of `lanes`.

        Locks what it returns and leaves out what others have locked, where writers do not exclude each other.
        """

    def in_query(self, column: ColumnElement[Any], query: Select[Any]) -> ColumnElement[bool]:
        """`column IN (query)`, in the form that evaluates the query once."""

    def id_ends_with(self, column: ColumnElement[UUID], last: bytes) -> ColumnElement[bool]:
        """Whether the last bytes of an id are `last`."""

    def announce(self, conn: Connection, hints: int) -> None:
        """Tell other processes at commit; nothing where that happens outside the transaction."""
