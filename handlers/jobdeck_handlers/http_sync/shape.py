"""A table as it is: its columns, and what values look like in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Connection,
    DateTime,
    Enum,
    Float,
    Integer,
    SmallInteger,
    String,
    column,
    inspect,
    table,
)
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.sql.expression import TableClause
from sqlalchemy.types import NullType, TypeEngine

from jobdeck_handlers.http_sync.kinds import Kind, as_kind

_INT64: Final = 2**63


class Refused(Exception):
    """A value that its column does not take."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column; `kind` is None for a type that only people choose, like timestamp: it is never widened."""

    name: str
    kind: Kind | None
    type: TypeEngine[Any]

    def bind(self, value: Any) -> Any:
        """A JSON value as this column stores it and gives it back. Raises Refused."""
        if value is None:
            return None
        if self.kind is not None:
            return as_kind(value, self.kind)
        if isinstance(self.type, NullType):
            return _loose(value)
        try:
            return _READERS.get(_python_type(self.type), _as_it_is)(value, self.type)
        except (ValueError, TypeError, InvalidOperation):
            raise Refused(f"{self.name} does not take {str(value)[:60]!r}") from None


@dataclass(frozen=True, slots=True)
class Shape:
    """A table of the target."""

    name: str
    columns: Mapping[str, Column]

    def clause(self) -> TableClause:
        """The table for use in a statement."""
        return table(self.name, *(column(each.name, each.type) for each in self.columns.values()))


def read_shape(conn: Connection, name: str) -> Shape | None:
    """The table as it is now; None where there is none."""
    try:
        found = inspect(conn).get_columns(name)
    except NoSuchTableError:
        return None
    exact_integers = conn.dialect.name == "postgresql"
    columns = (_column(each["name"], each["type"], exact_integers) for each in found)
    return Shape(name, {each.name: each for each in columns})


def _column(name: str, type_: TypeEngine[Any], exact_integers: bool) -> Column:
    kind = _kind(type_)
    if not exact_integers:
        # SQLite keeps 64 bits whatever the declaration says, and takes any value for the types it does not know.
        if kind in (Kind.INT16, Kind.INT32):
            return Column(name, Kind.INT53, type_)
        if kind is None:
            return Column(name, None, NullType())
    if isinstance(type_, JSON):
        return Column(name, kind, type(type_)(none_as_null=True))
    return Column(name, kind, type_)


def _kind(type_: TypeEngine[Any]) -> Kind | None:
    kinds: tuple[tuple[type[TypeEngine[Any]], Kind | None], ...] = (
        (Boolean, Kind.BOOLEAN),
        (SmallInteger, Kind.INT16),
        (BigInteger, Kind.INT53),
        (Integer, Kind.INT32),
        (Float, Kind.FLOAT),
        (JSON, Kind.JSON),
        (Enum, None),
        (String, Kind.TEXT),
    )
    return next((kind for base, kind in kinds if isinstance(type_, base)), None)


def _loose(value: Any) -> Any:
    if isinstance(value, dict | list) or (isinstance(value, int) and not -_INT64 <= value < _INT64):
        return as_kind(value, Kind.TEXT)
    return value


def _python_type(type_: TypeEngine[Any]) -> type[Any] | None:
    try:
        return type_.python_type
    except NotImplementedError:
        return None


def _as_it_is(value: Any, _: TypeEngine[Any]) -> Any:
    return value


def _to_datetime(value: Any, type_: TypeEngine[Any]) -> datetime:
    found = datetime.fromisoformat(value)
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found
    zoned = isinstance(type_, DateTime) and type_.timezone
    return found if zoned else found.astimezone(UTC).replace(tzinfo=None)


_READERS: Final[Mapping[type[Any] | None, Callable[[Any, TypeEngine[Any]], Any]]] = {
    datetime: _to_datetime,
    date: lambda value, _: date.fromisoformat(value),
    time: lambda value, _: time.fromisoformat(value),
    Decimal: lambda value, _: Decimal(str(value)),
    UUID: lambda value, _: UUID(value),
}
