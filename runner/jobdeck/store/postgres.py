"""PostgreSQL by asyncpg: a few lanes, each its own connection, share one queue of waiting writes.

While one lane waits for its commit the other fills the next one, so the server always has something to do.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import asyncpg
from sqlalchemy import URL, Connection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from jobdeck.errors import DatabaseUnavailable, JobdeckError
from jobdeck.store.batch import Group, Unit, by_rank, commit, outcome, unwrap
from jobdeck.store.database import settled
from jobdeck.store.differences import Differences
from jobdeck.store.failures import translate, translated
from jobdeck.store.notifications import NotificationListener, dsn_of
from jobdeck.store.postgres_differences import PostgresDifferences
from jobdeck.store.signals import Signals
from jobdeck.store.transaction import Hint, I, R, Verb

P = ParamSpec("P")
T = TypeVar("T")

_LANES = 2
_UNITS_PER_COMMIT = 1_000


def postgres_engine(url: URL, connect_timeout: float = 10.0, **pool: Any) -> AsyncEngine:
    """An engine whose connections asyncpg makes from the whole URL; SQLAlchemy would take it to pieces first."""
    dsn = dsn_of(url)
    settings = {} if "application_name" in url.query else {"application_name": "jobdeck"}

    async def connect() -> Any:
        return await asyncpg.connect(dsn, timeout=connect_timeout, server_settings=settings)

    return create_async_engine("postgresql+asyncpg://", async_creator=connect, hide_parameters=True, **pool)


class PostgresDatabase:
    """See `Database`."""

    def __init__(self, url: URL, *, pool_size: int = 5, connect_timeout: float = 10.0) -> None:
        self.url = url
        self.differences: Differences = PostgresDifferences()
        self.signals = Signals()
        self.offset_us = 0
        self._engine: AsyncEngine = postgres_engine(
            url,
            connect_timeout,
            pool_size=pool_size + _LANES,
            max_overflow=0,
            pool_timeout=30,
            pool_pre_ping=False,
        )
        self._waiting: deque[Unit] = deque()
        self._wake = asyncio.Event()
        self._lanes: list[asyncio.Task[None]] = []
        self._closing = False
        self._listener = NotificationListener(url, self.signals)

    async def open(self) -> None:
        await self.read(lambda conn: conn.exec_driver_sql("SELECT 1").scalar())
        self._lanes = [asyncio.create_task(self._lane(), name=f"jobdeck-lane-{n}") for n in range(_LANES)]
        await self._listener.start()

    async def close(self) -> None:
        self._closing = True
        self._wake.set()
        await asyncio.gather(*self._lanes)
        await self._listener.stop()
        await self._engine.dispose()

    async def write(self, verb: Verb[I, R], item: I) -> R:
        results = await self._submit(verb, [item])
        found: R = unwrap(results[0])
        return found

    async def write_many(self, verb: Verb[I, R], items: Sequence[I]) -> list[R | JobdeckError]:
        return settled(await self._submit(verb, items)) if items else []

    async def _submit(self, verb: Verb[Any, Any], items: Sequence[Any]) -> list[Any]:
        if self._closing:
            raise DatabaseUnavailable("the database is closed")
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        group = Group(verb, items, future.set_result)
        self._waiting.extend(Unit(group, index) for index in range(len(items)))
        self._wake.set()
        results: list[Any] = await outcome(future)
        return results

    async def _lane(self) -> None:
        while True:
            while not self._waiting:
                if self._closing:
                    return
                self._wake.clear()
                await self._wake.wait()
            ranked = by_rank(self._waiting)
            self._waiting = deque(ranked[_UNITS_PER_COMMIT:])
            units = ranked[:_UNITS_PER_COMMIT]
            hints = await self._commit(units)
            for group in {unit.group for unit in units}:
                if group.complete:
                    group.deliver()
            self.signals.publish(hints)

    async def _commit(self, units: list[Unit]) -> Hint:
        try:
            async with self._engine.connect() as conn:
                return await conn.run_sync(lambda sync: commit(sync, units, self.differences, self.offset_us))
        except (Exception, asyncio.CancelledError) as error:
            # No connection to be had: nothing was tried, so every unit of the batch fails alike. A lane is never
            # cancelled while somebody waits; a cancellation out of the driver must not end it either.
            failure = translate(error) if isinstance(error, Exception) else DatabaseUnavailable()
            for unit in units:
                unit.group.settle(unit.index, failure)
            return Hint.NONE

    async def read(
        self, query: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        task = asyncio.ensure_future(self._read(lambda conn: query(conn, *args, **kwargs)))
        found: T = await outcome(task)
        return found

    async def _read(self, query: Callable[[Connection], T]) -> T:
        with translated():
            async with self._engine.connect() as conn:
                await conn.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                async with conn.begin():
                    return await conn.run_sync(query)

    def now_of(self, conn: Connection) -> int:
        return self.differences.now(conn, self.offset_us)

    def checked_out(self) -> int:
        checkedout: Callable[[], int] = getattr(self._engine.pool, "checkedout", lambda: 0)
        return checkedout()
