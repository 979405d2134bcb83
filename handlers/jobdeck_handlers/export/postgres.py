"""Reads from PostgreSQL: in a transaction that cannot write, by a cursor of the server."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from sqlalchemy import URL
from sqlalchemy.pool import NullPool

from jobdeck import Discard, Retry
from jobdeck_handlers.databases.destination import OWN_TABLES, refuse_own_tables
from jobdeck_handlers.databases.failures import is_of_target
from jobdeck_handlers.export.failures import ending
from jobdeck_handlers.export.own_thread import until_ended
from jobdeck_handlers.export.params import Bound
from jobdeck_handlers.export.placeholders import names_in, with_placeholders
from jobdeck_handlers.export.postgres_types import column_of, selected
from jobdeck_handlers.export.rows import Column, Kind, Query, Row, Rows

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_CONNECT_SECONDS: Final = 10.0
# How long a query that is cancelled may take to hear of it; then the connection is cut.
_CLOSE_SECONDS: Final = 2.0
# Milliseconds. A worker that is frozen in the middle holds back the vacuum of the whole server for so long.
_IDLE: Final = "60000"
_SETTINGS: Final = {
    "idle_in_transaction_session_timeout": _IDLE,
    # How values look as text.
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "iso_8601",
    "bytea_output": "hex",
    "extra_float_digits": "1",
}
_MAY_DO_MORE: Final = """
    SELECT bool_or(rolsuper OR pg_has_role(oid, 'pg_write_server_files', 'MEMBER')
                   OR pg_has_role(oid, 'pg_execute_server_program', 'MEMBER'))
    FROM pg_catalog.pg_roles WHERE rolname IN (current_user, session_user)
"""
_OWN: Final = """
    SELECT relnamespace::text, relname::text FROM pg_catalog.pg_class
    WHERE relkind IN ('r', 'p') AND relname::text = ANY ($1::text[])
"""
_POWERFUL: Final = (
    "the target's role may write files or start programs on the server, whatever the transaction; "
    "give an export a role that only reads: CREATE ROLE exporter LOGIN; GRANT pg_read_all_data TO exporter"
)
# Digits of Arrow's decimals of 128 and 256 bits.
_PRECISIONS: Final = (38, 76)


@asynccontextmanager
async def open_postgres(url: URL, query: Query) -> AsyncIterator[Rows]:
    """The query at the server. Raises Discard, Retry, or TimeoutError where the server has ended it."""
    engine = _engine(url)
    try:
        async with _connected(engine) as connection:
            with _errors():
                transaction = connection.transaction(isolation="repeatable_read", readonly=True)
                await transaction.start()
                await _settle(connection, query)
            rows = PostgresRows(connection, query)
            await rows.describe()
            yield rows
    finally:
        await until_ended(asyncio.ensure_future(engine.dispose()))


@asynccontextmanager
async def _connected(engine: AsyncEngine) -> AsyncIterator[Any]:
    """A connection of the driver itself: only that tells the types of a query before its rows."""
    with _errors():
        pooled = await engine.connect()
    try:
        with _errors():
            connection: Any = (await pooled.get_raw_connection()).driver_connection
        try:
            yield connection
        finally:
            # Also cancels what the server is doing, which is why it is not the pool that closes it.
            await until_ended(asyncio.ensure_future(_close(connection)))
    finally:
        await until_ended(asyncio.ensure_future(pooled.close()))


def _engine(url: URL) -> AsyncEngine:
    # Here, because it brings the whole ORM with it: 7 MiB that a worker without exports does without.
    from sqlalchemy.ext.asyncio import create_async_engine

    connect = {
        "timeout": _CONNECT_SECONDS,
        "server_settings": {"application_name": "jobdeck export"},
        "prepared_statement_cache_size": 0,
        "statement_cache_size": 0,
    }
    try:
        return create_async_engine(url, poolclass=NullPool, connect_args=connect, hide_parameters=True)
    except ModuleNotFoundError:
        raise Discard("this worker cannot reach PostgreSQL: install jobdeck[postgres]") from None


async def _close(connection: Any) -> None:
    with suppress(Exception):
        await asyncio.wait_for(connection.close(), _CLOSE_SECONDS)
    connection.terminate()


async def _settle(connection: Any, query: Query) -> None:
    """Refuse what an export must not read, and make the rest of the transaction safe."""
    timeout = max(1, int(query.timeout.total_seconds() * 1000))
    for name, value in {**_SETTINGS, "statement_timeout": str(timeout)}.items():
        # Not at connect: poolers in front of a server refuse most settings there.
        await connection.fetchval("SELECT set_config($1, $2, true)", name, value)
    if await connection.fetchval(_MAY_DO_MORE):
        raise Discard(_POWERFUL)
    schemas: defaultdict[str, list[str]] = defaultdict(list)
    for schema, table in await connection.fetch(_OWN, sorted(OWN_TABLES)):
        schemas[schema].append(table)
    for tables in schemas.values():
        refuse_own_tables(tables)


class PostgresRows(Rows):
    """See `Rows`."""

    def __init__(self, connection: Any, query: Query) -> None:
        self._connection = connection
        self._query = query
        self._asked = names_in(query.text)
        self._values = [_as_text(query.bind[name]) for name in self._asked]
        self._inner = ""
        self._cursor: Any = None
        self._columns: list[Column] = []
        self._selected: list[str] = []

    @property
    def columns(self) -> Sequence[Column]:
        return self._columns

    async def describe(self) -> None:
        """Learn the types of the columns and of the values that are asked for."""
        numbered = with_placeholders(self._query.text, lambda name: f"${self._asked.index(name) + 1}")
        with _errors():
            # As a part of another query only a query is valid, only one, and none that writes.
            statement = await self._prepare(f"SELECT * FROM (\n{numbered}\n) AS q")
            described = statement.get_attributes()
            self._columns = [column_of(each.name, each.type) for each in described]
            self._selected = [selected(f"c{at}", each.type) for at, each in enumerate(described)]
            casts = {
                name: await self._connection.fetchval("SELECT format_type($1, -1)", each.oid)
                for name, each in zip(self._asked, statement.get_parameters(), strict=True)
            }
        # Values come as text, which the server reads into any type there is.
        self._inner = with_placeholders(
            self._query.text, lambda name: f"CAST(${self._asked.index(name) + 1}::text AS {casts[name]})"
        )

    async def count(self) -> int:
        with _errors():
            return int(
                await self._connection.fetchval(
                    f"SELECT count(*) FROM (\n{self._inner}\n) AS q", *self._values
                )
            )

    async def measure(self) -> None:
        decimals = [at for at, column in enumerate(self._columns) if column.kind is Kind.DECIMAL]
        if not decimals:
            return
        each = ", ".join(f"max(scale(c{at})), max(abs(c{at}))" for at in decimals)
        with _errors():
            found = await self._connection.fetchrow(f"SELECT {each} FROM {self._source}", *self._values)
        for at, scale, largest in zip(decimals, found[::2], found[1::2], strict=True):
            self._columns[at] = replace(self._columns[at], decimal=_fitting(scale, largest))

    async def start(self) -> None:
        with _errors():
            statement = await self._prepare(f"SELECT {', '.join(self._selected)} FROM {self._source}")
            self._cursor = await statement.cursor(*self._values)

    async def fetch(self, count: int) -> Sequence[Row]:
        with _errors():
            rows: Sequence[Row] = await self._cursor.fetch(count)
            return rows

    async def _prepare(self, text: str) -> Any:
        # The driver's own names are the same on every connection, and a pooler may keep another client's.
        return await self._connection.prepare(text, name=f"jobdeck_export_{uuid4().hex}")

    @property
    def _source(self) -> str:
        names = ", ".join(f"c{at}" for at in range(len(self._columns)))
        return f"(\n{self._inner}\n) AS q ({names})"


def _as_text(value: Bound) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)


def _fitting(scale: int | None, largest: Decimal | None) -> tuple[int, int] | None:
    """Precision and scale of the decimal of Arrow that holds all values; None where they are too long, or NaN."""
    if largest is None:
        return _PRECISIONS[0], 0
    if not largest.is_finite() or scale is None:
        return None
    digits = max(0, largest.adjusted() + 1) + scale
    return next(((precision, scale) for precision in _PRECISIONS if digits <= precision), None)


@contextmanager
def _errors() -> Iterator[None]:
    """Errors of the server, of the way to it and of the driver become the run's outcome."""
    from asyncpg.exceptions import InterfaceError, InternalClientError

    try:
        yield
    except (InterfaceError, InternalClientError) as error:
        raise Retry(f"the target database: {error}") from error
    except Exception as error:
        if is_of_target(error):
            raise ending(error) from error
        raise
