"""PostgreSQL by asyncpg: a few lanes, each its own connection, share one queue of waiting writes.

While one lane waits for its commit the other fills the next one, so the server always has something to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import asyncpg
from sqlalchemy import URL, Connection, func, select
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from jobdeck.errors import DatabaseUnavailable, JobdeckError
from jobdeck.store.announcer import Announcer
from jobdeck.store.batch import Commit, Group, Part, Results, Unit, commit, outcome, take, unwrap
from jobdeck.store.database import settled
from jobdeck.store.differences import Differences
from jobdeck.store.failures import translate, translated
from jobdeck.store.notifications import NotificationListener
from jobdeck.store.pooler import BEHIND_POOLER, dsn_of, is_pooled
from jobdeck.store.postgres_differences import PostgresDifferences
from jobdeck.store.signals import Deafness, Signals
from jobdeck.store.transaction import Hint, I, R, Verb

P = ParamSpec("P")
T = TypeVar("T")

_LANES = 2
# Few enough that a large batch is written by all lanes at the same time.
_ITEMS_PER_COMMIT = 250
# How long the server waits for a process in the middle of a transaction. Ours last milliseconds; one whose process
# is cut off or frozen would hold its locks, and keep its runs from recovery, until the connection is seen to be dead.
_IDLE_IN_TRANSACTION_MS = 10_000


def postgres_engine(
    url: URL, connect_timeout: float = 10.0, *, pooled: bool = False, **pool: Any
) -> AsyncEngine:
    """An engine whose connections asyncpg makes from the whole URL; SQLAlchemy would take it to pieces first.

    `pooled`: behind a pooler in transaction mode only the nameless prepared statement is used, made anew each time.
    Names would be met by the clients that get the same backend later, and never be dropped from it.
    """
    dsn = dsn_of(url)
    settings = {} if "application_name" in url.query else {"application_name": "jobdeck"}
    driver: dict[str, Any] = {"statement_cache_size": 0} if pooled else {}
    adapter: dict[str, Any] = (
        {"prepared_statement_cache_size": 0, "prepared_statement_name_func": lambda: ""} if pooled else {}
    )

    async def connect() -> Any:
        conn = await asyncpg.connect(dsn, timeout=connect_timeout, server_settings=settings, **driver)
        if not pooled:
            # Not a start-up parameter: poolers in session mode refuse those that they do not know.
            await conn.execute(f"SET idle_in_transaction_session_timeout = {_IDLE_IN_TRANSACTION_MS}")
        return conn

    def create() -> Any:
        # As `async_creator` of SQLAlchemy does it, which has no room for the arguments of its adapter.
        return engine.dialect.dbapi.connect(async_creator_fn=connect, **adapter)  # type: ignore[union-attr]

    engine = create_async_engine("postgresql+asyncpg://", creator=create, hide_parameters=True, **pool)
    return engine


class PostgresDatabase:
    """See `Database`."""

    def __init__(self, url: URL, *, pool_size: int = 5, connect_timeout: float = 10.0) -> None:
        self.url = url
        self.differences: Differences = PostgresDifferences()
        self.signals = Signals()
        self.offset_us = 0
        self._connect_timeout = connect_timeout
        self._pool_size = pool_size
        self._engine = self._make_engine(pooled=False)
        self._pooled = False
        self._waiting: list[Unit] = []
        self._wake = asyncio.Event()
        self._lanes: list[asyncio.Task[None]] = []
        self._closing = False
        self._announcer = Announcer()
        self._listener = NotificationListener(url, self.signals, self._notify, own=self._announcer.name)

    def _make_engine(self, *, pooled: bool, size: int | None = None) -> AsyncEngine:
        return postgres_engine(
            self.url,
            self._connect_timeout,
            pooled=pooled,
            pool_size=size or self._pool_size + _LANES,
            max_overflow=0,
            pool_timeout=30,
            pool_pre_ping=False,
        )

    @property
    def deafness(self) -> Deafness | None:
        return BEHIND_POOLER if self._pooled else self._listener.deafness

    async def open(self) -> None:
        self._pooled = await is_pooled(self.url, self._connect_timeout)
        if self._pooled:
            self._engine = self._make_engine(pooled=True)
        await self.read(lambda conn: conn.exec_driver_sql("SELECT 1").scalar())
        self._lanes = [asyncio.create_task(self._lane(), name=f"jobdeck-lane-{n}") for n in range(_LANES)]
        self._announcer.start(self._make_engine(pooled=self._pooled, size=1))
        if not self._pooled:
            await self._listener.start()

    async def close(self) -> None:
        self._closing = True
        self._wake.set()
        await asyncio.gather(*self._lanes)
        await self._announcer.stop()
        await self._listener.stop()
        await self._engine.dispose()

    async def _notify(self, channel: str) -> None:
        with translated():
            async with self._engine.begin() as conn:
                await conn.execute(select(func.pg_notify(channel, "")))

    async def write(self, verb: Verb[I, R], item: I) -> R:
        ((result,),) = await self._written([(verb, [item])])
        found: R = unwrap(result)
        return found

    async def write_many(self, verb: Verb[I, R], items: Sequence[I]) -> list[R | JobdeckError]:
        return settled((await self._written([(verb, items)]))[0]) if items else []

    async def _written(self, parts: Sequence[Part]) -> Results:
        future = Commit()
        self.submit(parts, future.set_result)
        return await future

    def submit(self, parts: Sequence[Part], done: Callable[[Results], None]) -> None:
        if self._closing:
            raise DatabaseUnavailable("the database is closed")
        self._waiting += Group(parts, done).units(_ITEMS_PER_COMMIT)
        self._wake.set()

    async def _lane(self) -> None:
        while True:
            while not self._waiting:
                if self._closing:
                    return
                self._wake.clear()
                await self._wake.wait()
            units, self._waiting = take(self._waiting, _ITEMS_PER_COMMIT)
            hints = await self._commit(units)
            for group in {unit.group for unit in units}:
                if group.complete:
                    group.deliver()
            self.signals.publish(hints)
            self._announcer.send(hints)

    async def _commit(self, units: list[Unit]) -> Hint:
        try:
            async with self._engine.connect() as conn:
                return await conn.run_sync(lambda sync: commit(sync, units, self.differences, self.offset_us))
        except (Exception, asyncio.CancelledError) as error:
            # No connection to be had: nothing was tried, so every unit of the batch fails alike. A lane is never
            # cancelled while somebody waits; a cancellation out of the driver must not end it either.
            failure = translate(error) if isinstance(error, Exception) else DatabaseUnavailable()
            for unit in units:
                unit.settle([failure] * len(unit.items))
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
