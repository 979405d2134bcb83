"""Statements of the hot path: made with Core, compiled once for each kind of database, and then run as text.

What Core does for every execution (keys for its cache, coercion, expanding lists) costs more than SQLite needs to run
a statement by primary key. Everything else of the store uses Core as it is.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Boolean, CompoundSelect, Delete, Insert, Select, Update
from sqlalchemy.sql.compiler import SQLCompiler

from jobdeck.store.columns import Id
from jobdeck.store.differences import Differences, padded
from jobdeck.store.transaction import Tx

Built = Select[Any] | CompoundSelect[Any] | Insert | Update | Delete
Convert = Callable[[Any], Any]


class Statement:
    """One statement with named parameters. `build` makes it for a kind of database, once in the life of a process."""

    def __init__(self, build: Callable[[Differences], Built]) -> None:
        self._build = build
        self._compiled = cache(self._compile)

    def _compile(self, differences: Differences) -> _Compiled:
        return _Compiled(self._build(differences), differences)

    def all(self, tx: Tx, params: Mapping[str, Any]) -> list[Any]:
        """Run it; the rows as tuples whose fields have the names of the columns."""
        return self._compiled(tx.differences).run(tx, params)

    def run(self, tx: Tx, params: Mapping[str, Any]) -> None:
        """Run it where no rows are asked for."""
        self._compiled(tx.differences).run(tx, params)


def statement(build: Callable[[Differences], Built]) -> Statement:
    """Declare a statement by the function that makes it."""
    return Statement(build)


class _Compiled:
    def __init__(self, built: Built, differences: Differences) -> None:
        compiled = built.compile(dialect=differences.dialect)
        assert isinstance(compiled, SQLCompiler)  # noqa: S101  of a DML or SELECT
        self._sql = compiled.string
        self._lists = _lists_of(compiled)
        self._order = tuple(compiled.positiontup or ())
        self._fixed = {name: value for name, value in compiled.params.items() if value is not None}
        self._to_driver = {
            name: convert
            for name, bind in compiled.binds.items()
            if (convert := to_driver(bind.type, differences)) is not None
        }
        columns = list(built.exported_columns)
        self._row = namedtuple("Row", [column.key for column in columns]) if columns else None  # type: ignore[misc]
        self._from_driver = [
            (index, convert)
            for index, column in enumerate(columns)
            if (convert := from_driver(column.type, differences)) is not None
        ]

    def run(self, tx: Tx, params: Mapping[str, Any]) -> list[Any]:
        values = {**self._fixed, **params}
        for name, convert in self._to_driver.items():
            value = values[name]
            if isinstance(value, list | tuple | set | frozenset):
                values[name] = [convert(item) for item in value]
            elif value is not None:
                values[name] = convert(value)
        sql, bound = self._spread(values) if self._lists else (self._sql, [values[n] for n in self._order])
        found = tx.differences.execute(tx.conn, sql, bound)
        return [] if self._row is None else self._rows(found)

    def _spread(self, values: dict[str, Any]) -> tuple[str, list[Any]]:
        """Lists where the database has no arrays: as many places as the next power of two, the spare ones NULL."""
        sql, bound = self._sql, []
        for name in self._order:
            if name not in self._lists:
                bound.append(values[name])
                continue
            items = list(values[name])
            size = padded(len(items))
            sql = sql.replace(self._lists[name], _places(size), 1)
            bound += items + [None] * (size - len(items))
        return sql, bound

    def _rows(self, found: Iterable[Sequence[Any]]) -> list[Any]:
        make = self._row._make  # type: ignore[union-attr]
        if not self._from_driver:
            return [make(row) for row in found]
        rows = []
        for row in found:
            values = list(row)
            for index, convert in self._from_driver:
                if values[index] is not None:
                    values[index] = convert(values[index])
            rows.append(make(values))
        return rows


def _lists_of(compiled: SQLCompiler) -> dict[str, str]:
    """The places of expanding parameters, by name."""
    return {
        name: f"(__[POSTCOMPILE_{name}])"
        for name, bind in compiled.binds.items()
        if bind.expanding and f"(__[POSTCOMPILE_{name}])" in compiled.string
    }


@cache
def _places(size: int) -> str:
    return "(" + ", ".join("?" * size) + ")"


def to_driver(kind: Any, differences: Differences) -> Convert | None:
    """How a value of this column type is handed to the driver; None: as it is."""
    kind = getattr(kind, "item_type", kind)
    return differences.id_to_driver if isinstance(kind, Id) and not differences.driver_knows_ids else None


def from_driver(kind: Any, differences: Differences) -> Convert | None:
    """How a value of this column type comes from the driver; None: as it is."""
    if isinstance(kind, Id) and not differences.driver_knows_ids:
        return differences.id_from_driver
    return bool if isinstance(kind, Boolean) else None
