"""Column types and expressions that mean the same on both databases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, LargeBinary, Text, Uuid, literal_column
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from jobdeck.ids import NO_ID


class Id(TypeDecorator[UUID]):
    """A UUID: `uuid` on PostgreSQL, 16 bytes on SQLite, whose order is the order of the values on both."""

    impl = LargeBinary
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(Uuid())
        return dialect.type_descriptor(LargeBinary(16))

    def process_bind_param(self, value: UUID | None, dialect: Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return value.bytes

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], UUID | None] | None:
        # Instead of `process_result_value`, which costs as much again as the UUID that it makes.
        return None if dialect.name == "postgresql" else id_of


def id_of(value: bytes | None) -> UUID | None:
    """What SQLite has in a column of ids."""
    try:
        return None if value is None else UUID(bytes=value)
    except (TypeError, ValueError):
        # SQLite keeps whatever is put there; it is the id of nothing then, and one row does not hide all others.
        return NO_ID


def word(value: str) -> ColumnElement[str]:
    """A constant inside a statement, for conditions that partial indexes share.

    As a parameter it would be unknown when the statement is planned, and SQLite would plan it anew at every run.
    """
    return literal_column(f"'{value}'")


class Json(TypeDecorator[str]):
    """JSON as compact text, checked and serialised by `jobdeck.jsonio` before it comes here."""

    impl = Text
    cache_ok = True


TAIL_BYTES: Final = 3
"""Four characters of a shown id, the shortest tail to look up, are 20 bits."""


class id_tail(FunctionElement[bytes]):
    """The last `TAIL_BYTES` bytes of an id. Without parameters, so that an index of it fits a query with it."""

    type = LargeBinary()
    name = "id_tail"
    inherit_cache = True


@compiles(id_tail, "sqlite")
def _id_tail_sqlite(element: id_tail, compiler: Any, **options: Any) -> str:
    return f"substr({compiler.process(element.clauses, **options)}, -{TAIL_BYTES})"


@compiles(id_tail, "postgresql")
def _id_tail_postgres(element: id_tail, compiler: Any, **options: Any) -> str:
    return f"substr(uuid_send({compiler.process(element.clauses, **options)}), {17 - TAIL_BYTES})"
