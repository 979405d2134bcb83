"""Writes the records of one page, set-based: one statement for all that is new, one for all that has changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import Connection, and_, bindparam, insert, select, tuple_, update
from sqlalchemy.exc import StatementError
from sqlalchemy.sql import Executable

from jobdeck_handlers.databases.failures import reason, refuses_the_row
from jobdeck_handlers.http_sync.columns import Fitted
from jobdeck_handlers.http_sync.records import Record
from jobdeck_handlers.http_sync.shape import Refused, Shape

Mode: TypeAlias = Literal["upsert", "insert"]
Row: TypeAlias = dict[str, Any]
Identity: TypeAlias = tuple[Any, ...]

# Keys looked up in one statement: with the most fields of a key far below the 32,766 parameters of both databases.
_LOOKUP: Final = 500


@dataclass(slots=True)
class Written:
    """What became of the records of a page."""

    synced: int = 0
    """Added or updated."""
    skipped: int = 0
    """Already there: unchanged, or existing under insert."""
    refused: list[str] = field(default_factory=list)
    """Why records were not stored, one text for each of them."""


def write(
    conn: Connection, fitted: Fitted, records: Sequence[Record], key: Sequence[str], mode: Mode
) -> Written:
    """Store the records. One that the database refuses is left out alone, and counted.

    Without `key` every record is added. Of several with one identity the last counts under upsert, the first
    under insert.
    """
    written = Written()
    rows = list(_rows(fitted, records, written))
    columns = [fitted.names[name] for name in key]
    if not columns:
        _add(conn, fitted.shape, rows, written)
        return written
    by_identity = _by_identity(rows, columns, mode)
    written.skipped += len(rows) - len(by_identity)
    there = _existing(conn, fitted.shape, by_identity, columns, mode)
    _add(conn, fitted.shape, [row for identity, row in by_identity.items() if identity not in there], written)
    if mode == "insert":
        written.skipped += len(there)
        return written
    changed = [
        by_identity[identity] for identity, old in there.items() if _differs(by_identity[identity], old)
    ]
    written.skipped += len(there) - len(changed)
    _update(conn, fitted.shape, changed, columns, written)
    return written


def _rows(fitted: Fitted, records: Iterable[Record], written: Written) -> Iterator[Row]:
    columns = fitted.shape.columns
    for record in records:
        try:
            yield {
                name: columns[name].bind(value)
                for each, value in record.items()
                if (name := fitted.names.get(each)) is not None
            }
        except Refused as refusal:
            written.refused.append(str(refusal))


def _by_identity(rows: Iterable[Row], key: Sequence[str], mode: Mode) -> dict[Identity, Row]:
    found: dict[Identity, Row] = {}
    for row in rows:
        identity = tuple(row[name] for name in key)
        if mode == "upsert" or identity not in found:
            found[identity] = row
    return found


def _existing(
    conn: Connection, shape: Shape, rows: Mapping[Identity, Row], key: Sequence[str], mode: Mode
) -> dict[Identity, Row]:
    """Those of the rows that are in the table already, as they are there."""
    table = shape.clause()
    compared = {name for row in rows.values() for name in row} if mode == "upsert" else set()
    names = [*key, *(name for name in shape.columns if name in compared and name not in key)]
    found: dict[Identity, Row] = {}
    for identities in _batches(list(rows)):
        if len(key) == 1:
            condition = table.c[key[0]].in_([identity[0] for identity in identities])
        else:
            condition = tuple_(*(table.c[name] for name in key)).in_(identities)
        for values in conn.execute(select(*(table.c[name] for name in names)).where(condition)):
            identity = tuple(values[: len(key)])
            if identity in rows:
                found[identity] = dict(zip(names, values, strict=True))
    return found


def _batches(identities: list[Identity]) -> Iterator[list[Identity]]:
    for start in range(0, len(identities), _LOOKUP):
        yield identities[start : start + _LOOKUP]


def _differs(row: Row, old: Row) -> bool:
    return any(old[name] != value for name, value in row.items())


def _add(conn: Connection, shape: Shape, rows: Sequence[Row], written: Written) -> None:
    table = shape.clause()

    def statement(names: Sequence[str]) -> Executable:
        return insert(table).values(
            {table.c[name]: _parameter(shape, name, at) for at, name in enumerate(names)}
        )

    _store(conn, rows, statement, written)


def _update(
    conn: Connection, shape: Shape, rows: Sequence[Row], key: Sequence[str], written: Written
) -> None:
    table = shape.clause()

    def statement(names: Sequence[str]) -> Executable:
        parameters = {name: _parameter(shape, name, at) for at, name in enumerate(names)}
        same = and_(*(table.c[name] == parameters[name] for name in key))
        changes = {table.c[name]: parameter for name, parameter in parameters.items() if name not in key}
        return update(table).where(same).values(changes)

    _store(conn, rows, statement, written)


def _parameter(shape: Shape, name: str, at: int) -> Any:
    # Not named after the column: a parameter's name may not have every character that a column's may have.
    return bindparam(f"p{at}", type_=shape.columns[name].type)


def _store(
    conn: Connection, rows: Sequence[Row], statement: Callable[[Sequence[str]], Executable], written: Written
) -> None:
    alike: defaultdict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        alike[tuple(sorted(row))].append(row)
    for names, group in alike.items():
        parameters = [{f"p{at}": row[name] for at, name in enumerate(names)} for row in group]
        refused = _bisect(conn, statement(names), parameters)
        written.refused += refused
        written.synced += len(group) - len(refused)


def _bisect(conn: Connection, statement: Executable, parameters: Sequence[Row]) -> list[str]:
    """Execute for all; where the database refuses, for each half alone. The reasons of those refused in the end."""
    try:
        with conn.begin_nested():
            conn.execute(statement, parameters)
    except StatementError as error:
        if not refuses_the_row(error):
            raise
        if len(parameters) == 1:
            return [reason(error)]
    else:
        return []
    middle = len(parameters) // 2
    return _bisect(conn, statement, parameters[:middle]) + _bisect(conn, statement, parameters[middle:])
