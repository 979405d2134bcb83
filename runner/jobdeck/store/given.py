"""Many rows written at once: given as tuples, and used by one statement or several.

They go to the database as sets, an array for each column on PostgreSQL and lists of VALUES on SQLite, so a statement
costs what it does in there, not once more for every row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any, Final, TypeAlias

from sqlalchemy import Column, ColumnElement, Insert, Table, Update, update
from sqlalchemy.sql.compiler import SQLCompiler

from jobdeck.store.differences import Change, Differences, Given
from jobdeck.store.statement import Convert, to_driver
from jobdeck.store.transaction import Tx

Build: TypeAlias = Callable[[Differences, Given], Sequence[Change]]
"""The statements for given rows, in the order in which they run."""
_Prepared: TypeAlias = list[tuple[str, tuple[str, ...]]]

MOST: Final = 1_000
"""Rows given at once."""
_PREPARED: Final = 256
"""Statements kept for each use: which columns are the same in all rows differs from batch to batch."""


class GivenRows:
    """Statements over rows that are tuples in the order of `columns`. None may need what another one does.

    The first column is never NULL.
    """

    def __init__(self, columns: Sequence[Column[Any]], build: Build) -> None:
        self._columns = columns
        self._build = build
        self._prepared = lru_cache(_PREPARED)(self._prepare)
        self._converts = cache(self._find_converts)

    def write(self, tx: Tx, rows: Sequence[Sequence[Any]]) -> None:
        """Run the statements."""
        for start in range(0, len(rows), MOST):
            self._write(tx, rows[start : start + MOST])

    def _write(self, tx: Tx, rows: Sequence[Sequence[Any]]) -> None:
        columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
        for place, convert in self._converts(tx.differences):
            columns[place] = [None if value is None else convert(value) for value in columns[place]]
        shared = _shared(columns)
        many, single = {}, {}
        for place, column in enumerate(self._columns):
            if place in shared:
                single[column.name] = columns[place][0]
            else:
                many[column.name] = columns[place]
        for sql, order in self._prepared(tx.differences, shared):
            tx.differences.execute_given(tx.conn, sql, order, many, single)

    def _prepare(self, differences: Differences, shared: frozenset[int]) -> _Prepared:
        given = differences.given(self._columns, [self._columns[place] for place in shared])
        prepared: _Prepared = []
        for change in differences.together(self._build(differences, given)):
            compiled = change.compile(dialect=differences.dialect)
            assert isinstance(compiled, SQLCompiler)  # noqa: S101  of a DML
            prepared.append((compiled.string, tuple(compiled.positiontup or ())))
        return prepared

    def _find_converts(self, differences: Differences) -> list[tuple[int, Convert]]:
        found = ((place, to_driver(column.type, differences)) for place, column in enumerate(self._columns))
        return [(place, convert) for place, convert in found if convert is not None]


def _shared(columns: Sequence[Sequence[Any]]) -> frozenset[int]:
    """Columns with one value for all rows: given once, they cost next to nothing."""
    return frozenset(
        place for place, values in enumerate(columns) if place and values.count(values[0]) == len(values)
    )


class Rows(GivenRows):
    """Rows of one table.

    Without `keys` they are new rows. With `keys` (columns that name a row) they change the rows that are there; to the
    column `adds` the value is added. With `or_new`, which needs `adds`, a row that is missing is made.
    """

    def __init__(
        self,
        table: Table,
        columns: Sequence[str],
        *,
        keys: Sequence[str] = (),
        adds: str | None = None,
        or_new: bool = False,
    ) -> None:
        self._table = table
        self._names = columns
        self._keys = keys
        self._adds = adds
        build = self._change if keys and not or_new else self._insert
        super().__init__([table.c[name] for name in columns], build)

    def _insert(self, differences: Differences, given: Given) -> list[Any]:
        values = {name: given.values[name] for name in self._names}
        new: Any = insert_given(differences, given, self._table, values)
        if self._adds is None:
            return [new]
        grown = self._table.c[self._adds] + new.excluded[self._adds]
        return [new.on_conflict_do_update(index_elements=self._keys, set_={self._adds: grown})]

    def _change(self, differences: Differences, given: Given) -> list[Update]:
        changes = {name: given.values[name] for name in self._names if name not in self._keys}
        if self._adds is not None:
            changes[self._adds] = self._table.c[self._adds] + changes[self._adds]
        named = [self._table.c[key] == given.values[key] for key in self._keys]
        return [update(self._table).where(given.present, *named).values(changes)]


def insert_given(
    differences: Differences,
    given: Given,
    table: Table,
    values: dict[str, ColumnElement[Any]],
    *joined: ColumnElement[bool],
) -> Insert:
    """New rows of a table, one for each given row; `joined` to other tables that values come from."""
    labelled = [value.label(name) for name, value in values.items()]
    new: Insert = differences.insert(table).from_select(list(values), given.select(*labelled).where(*joined))
    return new
