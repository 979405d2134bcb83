"""The rows to ask about, from a table: in the order of their key, a page at a time, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Enum,
    Integer,
    LargeBinary,
    String,
    Text,
    Uuid,
    cast,
    column,
    func,
    inspect,
    select,
    table,
)
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.types import NullType, TypeEngine

from jobdeck import Discard
from jobdeck_handlers.databases.destination import refuse_own
from jobdeck_handlers.databases.target import Target
from jobdeck_handlers.llm_batch.answer import Key

PROMPT_BYTES: Final = 1024 * 1024
"""Largest prompt for one row; about 250,000 tokens of English."""
_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class InputRow:
    """What the prompt takes from one row, as text: empty where the row has NULL."""

    key: Key
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Survey:
    """What there is to ask about."""

    total: int
    key_type: type[TypeEngine[Any]]
    """The generic type in which keys are stored beside the answers."""


class TableInput:
    """A table or view. `columns` are those of the prompt's names; `label` is what people call it."""

    def __init__(
        self, target: Target, name: str, key: str, columns: Mapping[str, str], label: str | None = None
    ) -> None:
        self._target = target
        self._name = name
        self._key_name = key
        self._columns = columns
        self._label = label or name
        self._key: ColumnElement[Any] = column(key, NullType())

    async def survey(self) -> Survey:
        """Look at the table before anything is asked. Raises Discard where its rows cannot be asked about."""
        return await self._target.transact(self._survey)

    async def keys(self, after: Key | None, limit: int) -> list[Key]:
        """The next keys, in order."""
        query = select(self._key).select_from(table(self._name)).order_by(self._key).limit(limit)
        if after is not None:
            query = query.where(self._key > after)
        return await self._target.transact(lambda conn: list(conn.scalars(query)))

    async def rows(self, keys: Sequence[Key]) -> list[InputRow]:
        """The rows with these keys, in order; those that are gone by now are left out."""
        return await self._target.transact(lambda conn: self._rows(conn, keys))

    def _survey(self, conn: Connection) -> Survey:
        refuse_own(conn)
        types = self._types(conn)
        self._refuse_unknown(types)
        of_server = conn.dialect.name == "postgresql"
        if of_server:
            self._key = column(self._key_name, self._checked_type(types[self._key_name]))
        total = self._refuse_bad_keys(conn)
        return Survey(total, self._stored_type() if of_server else self._found_type(conn, total))

    def _types(self, conn: Connection) -> Mapping[str, TypeEngine[Any]]:
        try:
            return {each["name"]: each["type"] for each in inspect(conn).get_columns(self._name)}
        except NoSuchTableError:
            raise Discard(f"there is no table {self._name} to read rows from") from None

    def _refuse_unknown(self, types: Mapping[str, Any]) -> None:
        unknown = [each for each in (self._key_name, *self._columns.values()) if each not in types]
        if unknown:
            raise Discard(f"{self._label} has no column {_listed(unknown)}; it has {_listed(list(types))}")

    def _checked_type(self, type_: TypeEngine[Any]) -> TypeEngine[Any]:
        usable = isinstance(type_, Integer | String | Uuid) and not isinstance(type_, Enum)
        if not usable:
            raise Discard(f"{self._key_name} cannot be the key: it is neither whole numbers, text nor UUIDs")
        return type_

    def _refuse_bad_keys(self, conn: Connection) -> int:
        """The number of rows. Raises Discard where the key does not identify each of them."""
        key, rows = self._key, table(self._name)
        counts = select(func.count(), func.count(key), func.count(key.distinct())).select_from(rows)
        total, given, distinct = conn.execute(counts).one()
        if given < total:
            raise Discard(
                f"{total - given:,} of {total:,} rows of {self._label} have no {self._key_name}; "
                "every row needs a key of its own"
            )
        if distinct < total:
            twice = select(key).select_from(rows).group_by(key).having(func.count() > 1).limit(1)
            raise Discard(
                f"{self._key_name} does not identify the rows of {self._label}: {total - distinct:,} have the key "
                f"of another one, like {str(conn.scalar(twice))[:60]!r}"
            )
        return int(total)

    def _stored_type(self) -> type[TypeEngine[Any]]:
        if isinstance(self._key.type, Integer):
            return BigInteger
        return Uuid if isinstance(self._key.type, Uuid) else Text

    def _found_type(self, conn: Connection, total: int) -> type[TypeEngine[Any]]:
        # A column of SQLite holds values of any type, whatever its declaration says.
        found = func.typeof(self._key)
        one, other = conn.execute(
            select(func.min(found), func.max(found)).select_from(table(self._name))
        ).one()
        if total and (one != other or one not in ("integer", "text")):
            kinds = " and ".join(dict.fromkeys((one, other)))
            raise Discard(
                f"{self._key_name} cannot be the key: it holds {kinds}, and should hold whole numbers or text alone"
            )
        return BigInteger if one == "integer" else Text

    def _rows(self, conn: Connection, keys: Sequence[Key]) -> list[InputRow]:
        texts = [_text(conn, name) for name in self._columns.values()]
        query = select(self._key, *texts).select_from(table(self._name))
        found = conn.execute(query.where(self._key.in_(keys)).order_by(self._key))
        return [
            InputRow(key, dict(zip(self._columns, map(_decoded, values), strict=True)))
            for key, *values in found
        ]


def _text(conn: Connection, name: str) -> ColumnElement[Any]:
    """The column as text made by the database, cut where the prompt would be too long anyway."""
    text: ColumnElement[Any] = cast(column(name, NullType()), Text)
    if conn.dialect.name == "sqlite":
        # SQLite lets text hold bytes that are no UTF-8, which its driver would stumble over.
        text = cast(text, LargeBinary)
    return func.substr(text, 1, PROMPT_BYTES + 1, type_=text.type)


def _decoded(value: str | bytes | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(each[:60] for each in names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
