"""SQLite: one writer thread with group commit per process, readers by aiosqlite.

Settings and their reasons were measured (docs/design notes in CONTRIBUTING): `BEGIN IMMEDIATE` is the only form in
which no process loses a race or starves, FULL is what makes an accepted run durable, and a process must queue its
own writes rather than let SQLite's busy handler, which is not fair, sort them out.
"""

from __future__ import annotations

import asyncio
import os
import random
import stat
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from jobdeck.errors import ConfigError, DatabaseRefused, DatabaseUnavailable, JobdeckError
from jobdeck.store.batch import Commit, Group, Part, Results, Unit, commit, outcome, take, unwrap
from jobdeck.store.database import settled
from jobdeck.store.datagrams import CHANGE_GAP, NO_SOCKET, DatagramPeers
from jobdeck.store.differences import Differences
from jobdeck.store.failures import translated
from jobdeck.store.signals import Deafness, Signals
from jobdeck.store.sqlite_differences import SqliteDifferences
from jobdeck.store.transaction import Hint, I, R, Verb

P = ParamSpec("P")
T = TypeVar("T")

_ITEMS_PER_COMMIT = 1_000
_BUSY_PAUSE = 0.002
_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "wal_autocheckpoint=4000",
    "journal_size_limit=67108864",
    "trusted_schema=OFF",
)


class SqliteDatabase:
    """See `Database`."""

    def __init__(self, path: Path, *, busy_timeout: float = 5.0, readers: int = 4) -> None:
        self.path = path
        self.differences: Differences = SqliteDifferences()
        self.signals = Signals()
        self.offset_us = 0
        self._peers = DatagramPeers(path, self.signals)
        self._readers: AsyncEngine = reader_engine(path, busy_timeout, readers)
        self._writer = _Writer(self, writer_engine(path, busy_timeout))

    @property
    def deafness(self) -> Deafness | None:
        return None if self._peers.is_open else NO_SOCKET

    async def open(self) -> None:
        prepare_file(self.path)
        await asyncio.to_thread(self._writer.start)
        self._peers.open()

    async def close(self) -> None:
        await asyncio.to_thread(self._writer.stop)
        self._peers.close()
        await self._readers.dispose()

    async def write(self, verb: Verb[I, R], item: I) -> R:
        ((result,),) = await self._commit([(verb, [item])])
        found: R = unwrap(result)
        return found

    async def write_many(self, verb: Verb[I, R], items: Sequence[I]) -> list[R | JobdeckError]:
        return settled((await self._commit([(verb, items)]))[0]) if items else []

    async def _commit(self, parts: Sequence[Part]) -> Results:
        future = Commit()
        self.submit(parts, future.set_result)
        return await future

    def submit(self, parts: Sequence[Part], done: Callable[[Results], None]) -> None:
        self._writer.put(Group(parts, done), asyncio.get_running_loop())

    async def read(
        self, query: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        task = asyncio.ensure_future(self._read(lambda conn: query(conn, *args, **kwargs)))
        found: T = await outcome(task)
        return found

    async def _read(self, query: Callable[[Connection], T]) -> T:
        with translated():
            async with self._readers.begin() as conn:
                return await conn.run_sync(query)

    def now_of(self, conn: Connection) -> int:
        return self.differences.now(conn, self.offset_us)

    def checked_out(self) -> int:
        checkedout: Callable[[], int] = getattr(self._readers.pool, "checkedout", lambda: 0)
        return checkedout()

    @property
    def hints_wait(self) -> bool:
        """Whether the other processes have not been told everything yet."""
        return self._peers.waits

    def flush_hints(self) -> None:
        """Tell them now."""
        self._peers.flush()

    def announce(self, hints: Hint) -> None:
        """After a commit: tell the listeners here and the other processes."""
        self.signals.publish(hints)
        self._peers.send(hints)


class _Writer:
    """The thread that owns the one connection that writes."""

    def __init__(self, database: SqliteDatabase, engine: Engine) -> None:
        self._database = database
        self._engine = engine
        self._waiting: list[Unit] = []
        self._loops: dict[Group, asyncio.AbstractEventLoop] = {}
        self._wake = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Open the file and start the thread. Raises DatabaseUnavailable; it may be started again then."""
        with translated():
            conn = self._engine.connect()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, args=(conn,), name="jobdeck-writer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Commit what waits and end the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._engine.dispose()

    def put(self, group: Group, loop: asyncio.AbstractEventLoop) -> None:
        """Queue the items of a group. Raises DatabaseUnavailable once the database is closed."""
        with self._wake:
            if self._stopping or self._thread is None:
                raise DatabaseUnavailable("the database is closed")
            self._loops[group] = loop
            self._waiting += group.units(_ITEMS_PER_COMMIT)
            self._wake.notify()

    def _run(self, conn: Connection) -> None:
        with conn:
            while (units := self._take()) is not None:
                if not units:
                    self._database.flush_hints()
                    continue
                hints = self._commit(conn, units)
                self._deliver({unit.group for unit in units})
                self._database.announce(hints)

    def _take(self) -> list[Unit] | None:
        with self._wake:
            while not self._waiting:
                if self._stopping:
                    return None
                if not self._wake.wait(CHANGE_GAP if self._database.hints_wait else None):
                    return []
            units, self._waiting = take(self._waiting, _ITEMS_PER_COMMIT)
            return units

    def _commit(self, conn: Connection, units: list[Unit]) -> Hint:
        return commit(conn, units, self._database.differences, self._database.offset_us)

    def _deliver(self, groups: set[Group]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[Group]] = {}
        for group in groups:
            if group.complete:
                by_loop.setdefault(self._loops.pop(group), []).append(group)
        for loop, ready in by_loop.items():
            try:
                loop.call_soon_threadsafe(_deliver_all, ready)
            except RuntimeError:
                # The waiter's loop has closed: nobody is left to tell.
                continue


def _deliver_all(groups: list[Group]) -> None:
    for group in groups:
        group.deliver()


def writer_engine(path: Path, busy_timeout: float = 5.0) -> Engine:
    """The engine of the one writing connection: every transaction begins IMMEDIATE."""
    # A path is no part of a URL as it stands: in one, `?` and `%41` mean something.
    url = URL.create("sqlite", database=str(path))
    engine = create_engine(
        url,
        poolclass=NullPool,
        connect_args={"timeout": 0, "check_same_thread": False},
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, record: Any) -> None:
        # The first to open a new file changes it to WAL and locks the others out meanwhile.
        _patiently(lambda: _configure(connection, record), busy_timeout)

    @event.listens_for(engine, "begin")
    def _begin(conn: Connection) -> None:
        driver: Any = conn.connection.dbapi_connection
        _patiently(lambda: driver.execute("BEGIN IMMEDIATE"), busy_timeout)

    return engine


def _patiently(attempt: Callable[[], object], busy_timeout: float) -> None:
    """Try until the file is free. Short random pauses instead of SQLite's growing ones: no process is starved."""
    deadline = time.monotonic() + busy_timeout
    while True:
        try:
            attempt()
        except Exception as error:
            name = getattr(getattr(error, "orig", error), "sqlite_errorname", "")
            if not str(name).startswith("SQLITE_BUSY") or time.monotonic() >= deadline:
                raise
            time.sleep(random.uniform(0.0, 2 * _BUSY_PAUSE))
        else:
            return


def reader_engine(path: Path, busy_timeout: float, size: int) -> AsyncEngine:
    """Readers: short deferred transactions that cannot write."""
    url = URL.create("sqlite+aiosqlite", database=str(path))
    engine = create_async_engine(
        url,
        connect_args={"timeout": busy_timeout},
        pool_size=size,
        max_overflow=0,
        hide_parameters=True,
    )
    event.listen(engine.sync_engine, "connect", _configure)

    @event.listens_for(engine.sync_engine, "connect")
    def _read_only(connection: Any, _record: Any) -> None:
        _pragma(connection, "query_only=ON")
        # SQLite's own knows ASCII only.
        connection.create_function("lower", 1, _lower, deterministic=True)

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(conn: Connection) -> None:
        conn.exec_driver_sql("BEGIN")

    return engine


def _configure(connection: Any, _record: Any) -> None:
    # First of all: pragmas only work outside a transaction, and the driver's own mode would open one.
    connection.isolation_level = None
    for pragma in _PRAGMAS:
        _pragma(connection, pragma)
    for name, wanted in (("journal_mode", "wal"), ("foreign_keys", 1), ("synchronous", 2)):
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA {name}")
        found = cursor.fetchone()[0]
        cursor.close()
        if found != wanted:
            raise DatabaseRefused(
                f"SQLite refuses {name}={wanted} for this file (it says {found}); is it on a network file system?"
            )


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()


def _pragma(connection: Any, pragma: str) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def prepare_file(path: Path) -> None:
    """Make the file private before SQLite opens it; refuse one that is a link or belongs to somebody else."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DatabaseRefused(f"the database file {path} cannot be opened: {error.strerror}") from None
    try:
        facts = os.fstat(descriptor)
        if facts.st_uid not in (os.getuid(), 0) and os.getuid() != 0:
            raise ConfigError(f"the database file {path} belongs to another user")
        if not stat.S_ISREG(facts.st_mode):
            raise ConfigError(f"the database file {path} is not a regular file")
        if facts.st_size == 0:
            os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)
