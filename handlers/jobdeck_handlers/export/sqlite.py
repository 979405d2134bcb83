"""Reads from a SQLite file that is opened for reading only, over a connection that may do nothing else."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from jobdeck import Discard
from jobdeck_handlers.databases.destination import refuse_own_tables
from jobdeck_handlers.export.failures import ONE_QUERY, ending, is_busy
from jobdeck_handlers.export.own_thread import OwnThread, do_nothing
from jobdeck_handlers.export.rows import Column, Kind, Query, Row, Rows

T = TypeVar("T")

# Seconds. SQLite itself waits for a lock without noticing a cancel, so it waits shortly and is asked again.
_BUSY_STEP: Final = 0.1
_BUSY: Final = 10.0
_ALLOWED: Final = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)
_TYPES: Final[dict[type, str]] = {int: "integer", float: "real", str: "text", bytes: "blob"}
_VIRTUAL: Final = re.compile(r"\s*CREATE\s+VIRTUAL\s", re.IGNORECASE)
_EXACT_FLOAT: Final = 2**53
# What `_measure` finds, as bits: the storage classes there are, and integers that a float does not hold.
_INTEGER, _REAL, _TEXT, _BLOB, _WIDE = 1, 2, 4, 8, 16
_KINDS: Final = {
    0: Kind.TEXT,
    _INTEGER: Kind.INT64,
    _INTEGER | _WIDE: Kind.INT64,
    _REAL: Kind.FLOAT64,
    _INTEGER | _REAL: Kind.FLOAT64,
    _TEXT: Kind.TEXT,
    _BLOB: Kind.BYTES,
}


@asynccontextmanager
async def open_sqlite(path: Path, query: Query, thread: OwnThread) -> AsyncIterator[Rows]:
    """The query at the file. Raises Discard, or Retry where the file stays locked."""
    connection = _connect(path)
    thread.interrupt = connection.interrupt
    try:
        rows = SqliteRows(connection, query, thread)
        await rows.begin()
        yield rows
    finally:
        thread.interrupt = do_nothing
        connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    """A connection that cannot write. Nothing is read yet."""
    if not path.exists():
        raise Discard("there is no such SQLite file; what only reads does not make one")
    try:
        return sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro",
            uri=True,
            timeout=_BUSY_STEP,
            isolation_level=None,
            check_same_thread=False,
        )
    except sqlite3.Error as error:
        raise ending(error) from error


class SqliteRows(Rows):
    """See `Rows`. Every call that reaches the file is made in the thread."""

    def __init__(self, connection: sqlite3.Connection, query: Query, thread: OwnThread) -> None:
        self._connection = connection
        self._query = query
        self._thread = thread
        self._names: list[str] = []
        self._kinds: list[Kind] = []
        self._types: list[set[type]] = []
        self._rows: Any = None

    @property
    def columns(self) -> Sequence[Column]:
        """SQLite has no types of columns: `type` names those of the values that have been fetched."""
        kinds = self._kinds or [Kind.MIXED] * len(self._names)
        return [
            Column(name, _type_name(types), kind)
            for name, types, kind in zip(self._names, self._types, kinds, strict=True)
        ]

    async def begin(self) -> None:
        """Begin the transaction, as soon as the file is not locked. Raises Retry where it stays so."""
        give_up = time.monotonic() + _BUSY
        while True:
            try:
                return await self._thread(self._begin)
            except sqlite3.Error as error:
                if not is_busy(error) or time.monotonic() > give_up:
                    raise ending(error) from error

    async def count(self) -> int:
        (found,) = await self._do(self._one, f"SELECT count(*) FROM (\n{self._query.text}\n)")
        return int(found)

    async def measure(self) -> None:
        width = await self._do(self._width)
        names = [f"c{at}" for at in range(width)]
        each = ", ".join(map(_measures, names))
        found = await self._do(
            self._one, f"WITH q({', '.join(names)}) AS (\n{self._query.text}\n) SELECT {each} FROM q"
        )
        self._kinds = [_kind(at, bits or 0) for at, bits in enumerate(found, 1)]

    async def start(self) -> None:
        await self._do(self._width)
        await self._do(self._start)

    async def fetch(self, count: int) -> Sequence[Row]:
        return await self._do(self._fetch, count)

    async def _do(self, call: Callable[..., T], *args: Any) -> T:
        try:
            return await self._thread(call, *args)
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise ending(error) from error

    def _begin(self) -> None:
        connection = self._connection
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute("BEGIN")
        # The first look takes the snapshot, and the lock where there is one to be had.
        tables = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
        refuse_own_tables(tables)
        _wake(connection, [name for name, sql in tables.items() if _VIRTUAL.match(sql or "")])
        connection.set_authorizer(_authorize)

    def _width(self) -> int:
        """How many columns there are. As a part of another query only a query is valid, and only one."""
        text = f"SELECT * FROM (\n{self._query.text}\n) LIMIT 0"
        with closing(self._connection.execute(text, self._query.bind)) as cursor:
            return len(cursor.description)

    def _one(self, text: str) -> Any:
        with closing(self._connection.execute(text, self._query.bind)) as cursor:
            return cursor.fetchone()

    def _start(self) -> None:
        self._rows = self._connection.execute(self._query.text, self._query.bind)
        if self._rows.description is None:
            raise Discard(ONE_QUERY)
        self._names = [each[0] for each in self._rows.description]
        self._types = [set() for _ in self._names]

    def _fetch(self, count: int) -> list[Row]:
        rows: list[Row] = self._rows.fetchmany(count)
        for types, values in zip(self._types, zip(*rows, strict=True), strict=False):
            types.update(map(type, values))
        return rows


def _wake(connection: sqlite3.Connection, virtual: Iterable[str]) -> None:
    """Let virtual tables prepare what they need, which is more than a query may: they do so at their first use."""
    for name in virtual:
        quoted = name.replace('"', '""')
        # One whose module is not there cannot be read from either.
        with suppress(sqlite3.Error):
            connection.execute(f'SELECT * FROM "{quoted}" LIMIT 0').close()


def _authorize(action: int, name: str | None, value: str | None, _database: Any, _trigger: Any) -> int:
    # A full-text index asks, by itself, whether the file has changed.
    asks = action == sqlite3.SQLITE_PRAGMA and name == "data_version" and value is None
    # A function in FROM is declared so; to a statement this table is closed in any case.
    declares = action == sqlite3.SQLITE_UPDATE and name == "sqlite_master"
    return sqlite3.SQLITE_OK if action in _ALLOWED or asks or declares else sqlite3.SQLITE_DENY


def _measures(name: str) -> str:
    is_integer = f"typeof({name}) = 'integer'"
    wide = f"{is_integer} AND ({name} > {_EXACT_FLOAT} OR {name} < -{_EXACT_FLOAT})"
    others = " + ".join(
        f"{bit} * max(typeof({name}) = '{kind}')"
        for bit, kind in ((_REAL, "real"), (_TEXT, "text"), (_BLOB, "blob"))
    )
    return f"max({is_integer}) + {others} + {_WIDE} * max({wide})"


def _kind(at: int, bits: int) -> Kind:
    try:
        return _KINDS[bits]
    except KeyError:
        raise Discard(
            f"column {at} has values of more than one type, and a column of Parquet has one; select it with CAST"
        ) from None


def _type_name(types: Iterable[type]) -> str:
    return " or ".join(sorted(_TYPES[each] for each in types if each in _TYPES)) or "null"
