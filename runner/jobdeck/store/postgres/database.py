"""PostgreSQL by asyncpg: a few lanes, each its own connection, share one queue of waiting writes.

While one lane waits for its commit the other fills the next one, so the server always has something to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakSet

from sqlalchemy import URL, Connection, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from jobdeck.errors import DatabaseUnavailable, JobdeckError
from jobdeck.store.announcer import Announcer
from jobdeck.store.batch import Commit, Group, Part, Results, Unit, commit, outcome, take, unwrap
from jobdeck.store.database import settled
from jobdeck.store.differences import Differences
from jobdeck.store.failures import translate, translated
from jobdeck.store.postgres.differences import PostgresDifferences
from jobdeck.store.postgres.notifications import NotificationListener
from jobdeck.store.postgres.pooler import BEHIND_POOLER, dsn_of, is_pooled
from jobdeck.store.postgres.session import Watch, open_session
from jobdeck.store.signals import Deafness, Signals
from jobdeck.store.transaction import Hint, I, R, Verb
from jobdeck.store.unknown_outcome import Doubt, Doubts, Marks, Receipt, was_committed

P = ParamSpec("P")
T = TypeVar("T")

_LANES = 2
# Few enough that a large batch is written by all lanes at the same time.
_ITEMS_PER_COMMIT = 250
# What waits is worth a second transaction from so many items on: then idle lanes share it.
_SPLIT_FROM = 32
# What lanes write names its rows by keys. A server that has no statistics yet, or old ones, would rather read through
# tables that it takes for small. Where nothing but a scan is possible, servers before 18 take it for so dear then that
# they would compile the statement first, for 30-70 ms.
_PLANS_OF_LANES = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "jit": "off"}
# Seconds, for the server to take what waits and be told good-bye.
_CLOSE_WITHIN = 3.0
_SESSIONS_END_WITHIN = 0.5


def postgres_engine(
    url: URL,
    connect_timeout: float = 10.0,
    *,
    pooled: bool = False,
    command_timeout: float | None = None,
    sessions: WeakSet[Any] | None = None,
    wishes: Mapping[str, str] | None = None,
    **pool: Any,
) -> AsyncEngine:
    """An engine whose connections asyncpg makes from the whole URL; SQLAlchemy would take it to pieces first.

    `sessions` collects the connections; `wishes` are settings of the server that they should have. Without a
    `command_timeout` the server takes its time.

    `pooled`: behind a pooler in transaction mode only the nameless prepared statement is used, made anew each time.
    Names would be met by the clients that get the same backend later, and never be dropped from it. Limits of the
    session would be those of the backend; they are left to the pooler.
    """
    dsn = dsn_of(url)
    settings = {} if "application_name" in url.query else {"application_name": "jobdeck"}
    driver: dict[str, Any] = {"statement_cache_size": 0} if pooled else {}
    adapter: dict[str, Any] = (
        {"prepared_statement_cache_size": 0, "prepared_statement_name_func": lambda: ""} if pooled else {}
    )

    async def connect() -> Any:
        session = await open_session(
            dsn,
            connect_timeout=connect_timeout,
            command_timeout=None if pooled else command_timeout,
            settings=settings,
            wishes={} if pooled or wishes is None else wishes,
            **driver,
        )
        if sessions is not None:
            sessions.add(session)
        return session

    def create() -> Any:
        # As `async_creator` of SQLAlchemy does it, which has no room for the arguments of its adapter.
        return engine.dialect.dbapi.connect(async_creator_fn=connect, **adapter)  # type: ignore[union-attr]

    engine = create_async_engine("postgresql+asyncpg://", creator=create, hide_parameters=True, **pool)
    return engine


class _Line:
    """See `batch.Line`."""

    def __init__(self, watch: Watch, marks: Marks, doubts: Doubts) -> None:
        self._watch = watch
        self._marks = marks
        self._doubts = doubts

    @property
    def silence(self) -> DatabaseUnavailable | None:
        return self._watch.silence

    def mark(self, conn: Connection) -> tuple[Receipt, int]:
        return self._marks.leave(conn)

    def doubt(
        self, receipt: Receipt, units: Sequence[Unit], results: Sequence[Sequence[Any]], hints: Hint
    ) -> None:
        self._marks.renew()
        self._doubts.add(Doubt(receipt, units, results, hints))


class PostgresDatabase:
    """See `Database`."""

    def __init__(
        self, url: URL, *, pool_size: int = 5, connect_timeout: float = 10.0, command_timeout: float = 10.0
    ) -> None:
        self.url = url
        self.differences: Differences = PostgresDifferences()
        self.signals = Signals()
        self.offset_us = 0
        self._connect_timeout = connect_timeout
        self._command_timeout = command_timeout
        # The server ends a command sooner than this; only where nothing comes back at all the session is given up.
        self._patience = 1.5 * command_timeout
        self._sessions: WeakSet[Any] = WeakSet()
        self._pool_size = pool_size
        self._pooled = False
        self._make_engines()
        self._waiting: list[Unit] = []
        self._wake = asyncio.Event()
        self._lanes: list[asyncio.Task[None]] = []
        self._idle_lanes = 0
        self._closing = False
        self._abandoned = False
        self._doubts = Doubts(self._was_committed, settled=self._settled, again=self._queue)
        self._announcer = Announcer()
        self._listener = NotificationListener(url, self.signals, self._notify, own=self._announcer.name)

    def _make_engines(self) -> None:
        self._readers = self._make_engine(self._pool_size)
        # What lanes write is always the same few statements: to plan them anew for every batch took up to a third of
        # the time of a small one. Lists are asked for in many ways, and their plans depend on what is asked for.
        self._writers = self._make_engine(_LANES, **_PLANS_OF_LANES)

    def _make_engine(self, size: int, **wishes: str) -> AsyncEngine:
        return postgres_engine(
            self.url,
            self._connect_timeout,
            pooled=self._pooled,
            command_timeout=self._command_timeout,
            sessions=self._sessions,
            wishes=wishes,
            pool_size=size,
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
            self._make_engines()
        await self.read(lambda conn: conn.exec_driver_sql("SELECT 1").scalar())
        self._lanes = [asyncio.create_task(self._lane(), name=f"jobdeck-lane-{n}") for n in range(_LANES)]
        self._announcer.start(self._make_engine(1))
        if not self._pooled:
            await self._listener.start()

    async def close(self) -> None:
        self._closing = True
        self._wake.set()
        ending = asyncio.create_task(self._end(), name="jobdeck-close")
        # What a session says as it is closed is of no use to anybody any more.
        ending.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait({ending}, timeout=_CLOSE_WITHIN)
        self._doubts.give_up()
        self._abandon()
        # Who waits for an answer to a COMMIT has lost its session now, and can say that nobody knows; only who still
        # tries to connect goes on.
        await asyncio.wait({ending}, timeout=_SESSIONS_END_WITHIN)
        ending.cancel()
        await asyncio.wait({ending}, timeout=_CLOSE_WITHIN)
        await self._listener.stop()

    async def _end(self) -> None:
        try:
            await asyncio.gather(*self._lanes, return_exceptions=True)
        finally:
            await self._doubts.close()
            self._refuse_waiting()
        await self._announcer.stop()
        await self._writers.dispose()
        await self._readers.dispose()

    def _refuse_waiting(self) -> None:
        """A doubt may have queued something again when no lane was left to take it."""
        units, self._waiting = self._waiting, []
        for unit in units:
            unit.settle([DatabaseUnavailable("the database is closed")] * len(unit.items))
        self._settled(units, Hint.NONE)

    async def _notify(self, channel: str) -> None:
        with translated():
            async with self._session(self._readers) as (conn, _), conn.begin():
                await conn.execute(select(func.pg_notify(channel, "")))

    def _abandon(self) -> None:
        """End the sessions without a word to the server: whoever waits for it is told that it cannot be reached."""
        self._abandoned = True
        for session in list(self._sessions):
            session.terminate()

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
        self._queue(Group(parts, done).units(_ITEMS_PER_COMMIT))

    def _queue(self, units: Sequence[Unit]) -> None:
        self._waiting += units
        self._wake.set()

    def _settled(self, units: Sequence[Unit], hints: Hint) -> None:
        for group in {unit.group for unit in units}:
            if group.complete:
                group.deliver()
        self.signals.publish(hints)
        self._announcer.send(hints)

    async def _lane(self) -> None:
        marks = Marks()
        while True:
            self._idle_lanes += 1
            while not self._waiting:
                if self._closing:
                    return
                self._wake.clear()
                await self._wake.wait()
            units = self._take()
            self._idle_lanes -= 1
            self._settled(units, await self._commit(units, marks))

    def _take(self) -> list[Unit]:
        """What the next transaction of a lane writes: its share, where others are idle."""
        mine, rest = self._waiting, []
        if self._idle_lanes > 1 and sum(len(unit.items) for unit in mine) >= _SPLIT_FROM:
            groups = list(dict.fromkeys(unit.group for unit in mine))
            chosen = set(groups[: -(-len(groups) // self._idle_lanes)])
            rest = [unit for unit in mine if unit.group not in chosen]
            mine = [unit for unit in mine if unit.group in chosen]
        units, left = take(mine, _ITEMS_PER_COMMIT)
        self._waiting = left + rest
        return units

    async def _commit(self, units: list[Unit], marks: Marks) -> Hint:
        try:
            async with self._session(self._writers) as (conn, watch):
                line = _Line(watch, marks, self._doubts)
                return await conn.run_sync(
                    lambda sync: commit(sync, units, self.differences, self.offset_us, line)
                )
        except (Exception, asyncio.CancelledError) as error:
            # No connection to be had: nothing was tried, so every unit of the batch fails alike. A lane is never
            # cancelled while somebody waits; a cancellation out of the driver must not end it either.
            failure = translate(error) if isinstance(error, Exception) else DatabaseUnavailable()
            for unit in units:
                unit.settle([failure] * len(unit.items))
            return Hint.NONE

    @asynccontextmanager
    async def _session(self, engine: AsyncEngine) -> AsyncIterator[tuple[AsyncConnection, Watch]]:
        if self._abandoned:
            raise DatabaseUnavailable("the database is closed")
        async with engine.connect() as conn:
            with Watch(conn, self._patience) as watch:
                yield conn, watch

    async def _was_committed(self, receipt: Receipt) -> bool:
        with translated():
            async with self._session(self._readers) as (conn, _):
                return await conn.run_sync(was_committed, receipt)

    async def read(
        self, query: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        task = asyncio.ensure_future(self._read(lambda conn: query(conn, *args, **kwargs)))
        found: T = await outcome(task)
        return found

    async def _read(self, query: Callable[[Connection], T]) -> T:
        with translated():
            try:
                return await self._read_once(query)
            except DBAPIError as error:
                # An idle session that has broken meanwhile: another one may be had, and a read may be repeated.
                if not error.connection_invalidated:
                    raise
            return await self._read_once(query)

    async def _read_once(self, query: Callable[[Connection], T]) -> T:
        async with self._session(self._readers) as (conn, _):
            await conn.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            async with conn.begin():
                return await conn.run_sync(query)

    def now_of(self, conn: Connection) -> int:
        return self.differences.now(conn, self.offset_us)

    def checked_out(self) -> int:
        checkedout: Callable[[], int] = getattr(self._readers.pool, "checkedout", lambda: 0)
        return checkedout()
