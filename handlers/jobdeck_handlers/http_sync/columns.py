"""Makes tables and columns from the data, and widens columns that turn out too narrow. Nothing is ever narrowed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Column as TableColumn
from sqlalchemy import Connection, MetaData, Table, column, literal, or_, select, table
from sqlalchemy import Index as TableIndex

from jobdeck import Discard
from jobdeck_handlers.http_sync.kinds import (
    Kind,
    for_new_column,
    join,
    kind_of,
    same_type,
    type_of,
    widened,
)
from jobdeck_handlers.http_sync.naming import column_names
from jobdeck_handlers.http_sync.records import Record
from jobdeck_handlers.http_sync.shape import Column, Shape, read_shape

COLUMNS: Final = 256
"""Most columns of a table. A source that uses ids as field names would else make a column for each."""

_EXACT_FLOAT: Final = 2**53
_TEMPORARY: Final = "_jobdeck_widened"


@dataclass(frozen=True, slots=True)
class Fitted:
    """A table that takes the records, and the column of each field. A field without a column was always null."""

    shape: Shape
    names: Mapping[str, str]


def fit(
    conn: Connection, name: str, records: Sequence[Record], key: Sequence[str], model: Shape | None = None
) -> Fitted:
    """Make or change the table so that all the records fit; columns that are new there are as `model` has them.

    Each record has a value that is not null. Raises Discard where that takes too many columns.
    """
    shape = read_shape(conn, name)
    known = shape or model
    fields = dict.fromkeys([*key, *(field for record in records for field in record)])
    names = column_names(fields, known.columns if known else ())
    wanted = [
        _wanted(column_name, kind, shape, model) for column_name, kind in _needed(records, names).items()
    ]
    fitted = change(conn, shape, name, wanted, [names[field] for field in key])
    return Fitted(fitted, {field: each for field, each in names.items() if each in fitted.columns})


def change(
    conn: Connection, shape: Shape | None, name: str, wanted: Iterable[Column], key: Sequence[str]
) -> Shape:
    """Give the table (`shape`; None: there is none) the columns it lacks and widen those that are too narrow."""
    columns = dict(shape.columns) if shape else {}
    new = [each for each in wanted if each.name not in columns]
    narrow = [
        (columns[each.name], kind)
        for each in wanted
        if each.name in columns and (kind := _wider(columns[each.name], each)) is not None
    ]
    _refuse_too_many(name, len(columns) + len(new))
    if shape is None:
        _create(conn, name, new, key)
    else:
        for each in new:
            _alter(conn, name, f"ADD COLUMN {_quoted(conn, each.name)} {_compiled(conn, each)}")
    for now, kind in narrow:
        columns[now.name] = _widen(conn, name, now, kind, key)
    return Shape(name, columns | {each.name: each for each in new})


def _needed(records: Sequence[Record], names: Mapping[str, str]) -> dict[str, Kind]:
    needed: dict[str, Kind] = {}
    for record in records:
        for field, value in record.items():
            if value is not None:
                name, kind = names[field], kind_of(value)
                needed[name] = join(needed[name], kind) if name in needed else kind
    return needed


def _wanted(name: str, kind: Kind, shape: Shape | None, model: Shape | None) -> Column:
    for known in (shape, model):
        if known is not None and name in known.columns:
            column_now = known.columns[name]
            if column_now.kind is None or same_type(widened(column_now.kind, kind), column_now.kind):
                return column_now
            kind = widened(column_now.kind, kind)
            break
    kind = for_new_column(kind)
    return Column(name, kind, type_of(kind))


def _wider(now: Column, wanted: Column) -> Kind | None:
    """The kind the column must get so that it takes what the other takes; None where it does so already."""
    if now.kind is None or wanted.kind is None:
        return None
    kind = widened(now.kind, wanted.kind)
    return None if same_type(kind, now.kind) else kind


def _refuse_too_many(name: str, count: int) -> None:
    if count > COLUMNS:
        raise Discard(
            f"{name} would get {count} columns; at most {COLUMNS} are made. "
            "Does the source use ids as the names of fields?"
        )


def _create(conn: Connection, name: str, columns: Sequence[Column], key: Sequence[str]) -> None:
    made = Table(name, MetaData(), *(TableColumn(each.name, each.type) for each in columns))
    if key:
        TableIndex(_index(name), *(made.c[each] for each in key), unique=True)
    made.create(conn)


def _widen(conn: Connection, name: str, now: Column, kind: Kind, key: Sequence[str]) -> Column:
    if kind is Kind.FLOAT and _has_wide_integers(conn, name, now):
        kind = Kind.TEXT
    wanted = Column(now.name, kind, type_of(kind))
    if conn.dialect.name == "postgresql":
        _widen_postgres(conn, name, now, wanted)
    else:
        _widen_sqlite(conn, name, now, wanted, key)
    return wanted


def _has_wide_integers(conn: Connection, name: str, now: Column) -> bool:
    if now.kind is Kind.BOOLEAN:
        return False
    each = column(now.name, now.type)
    wide = or_(each > _EXACT_FLOAT, each < -_EXACT_FLOAT)
    return (
        conn.execute(select(literal(1)).select_from(table(name, each)).where(wide).limit(1)).first()
        is not None
    )


def _widen_postgres(conn: Connection, name: str, now: Column, wanted: Column) -> None:
    old = _quoted(conn, now.name)
    if wanted.kind is Kind.JSON:
        using = f"to_jsonb({old})"
    elif now.kind is Kind.BOOLEAN and wanted.kind is not Kind.TEXT:
        using = f"{old}::integer"
    else:
        using = f"{old}::{_compiled(conn, wanted)}"
    _alter(conn, name, f"ALTER COLUMN {old} TYPE {_compiled(conn, wanted)} USING {using}")


def _widen_sqlite(conn: Connection, name: str, now: Column, wanted: Column, key: Sequence[str]) -> None:
    # SQLite cannot change the type of a column, and would go on to turn "007" into 7 in one declared as a number.
    old, new, index = _quoted(conn, now.name), _quoted(conn, _TEMPORARY), _quoted(conn, _index(name))
    value = old
    if now.kind is Kind.BOOLEAN and wanted.kind in (Kind.TEXT, Kind.JSON):
        value = f"CASE {old} WHEN 0 THEN 'false' WHEN 1 THEN 'true' END"
    indexed = (
        now.name in key
        and conn.exec_driver_sql(
            "SELECT 1 FROM sqlite_master WHERE type = 'index' AND name = ?", (_index(name),)
        ).first()
    )
    _alter(conn, name, f"ADD COLUMN {new} {_compiled(conn, wanted)}")
    conn.exec_driver_sql(f"UPDATE {_quoted(conn, name)} SET {new} = {value}")  # noqa: S608  names are quoted
    if indexed:
        conn.exec_driver_sql(f"DROP INDEX {index}")
    _alter(conn, name, f"DROP COLUMN {old}")
    _alter(conn, name, f"RENAME COLUMN {new} TO {old}")
    if indexed:
        columns = ", ".join(_quoted(conn, each) for each in key)
        conn.exec_driver_sql(f"CREATE UNIQUE INDEX {index} ON {_quoted(conn, name)} ({columns})")


def _alter(conn: Connection, name: str, what: str) -> None:
    conn.exec_driver_sql(f"ALTER TABLE {_quoted(conn, name)} {what}")


def _index(name: str) -> str:
    """Name of the unique index on the key: not one that people would choose, and short for any table."""
    return f"jobdeck_key_{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def _quoted(conn: Connection, name: str) -> str:
    return conn.dialect.identifier_preparer.quote_identifier(name)


def _compiled(conn: Connection, wanted: Column) -> str:
    return str(wanted.type.compile(conn.dialect))
