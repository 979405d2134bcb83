"""SQLite: one writer thread with group commit per process, and a few threads that read.

A process must queue its own writes rather than let SQLite's busy handler, which is not fair, sort them out. A read is
one hand-over to a thread: aiosqlite, which makes one for every statement and every fetch, took twice as long for a
page of a list.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine

from jobdeck.errors import DatabaseUnavailable, JobdeckError
from jobdeck.store.batch import Commit, Group, Part, Results, Unit, commit, outcome, take, unwrap
from jobdeck.store.database import settled
from jobdeck.store.differences import Differences
from jobdeck.store.failures import translated
from jobdeck.store.signals import Deafness, Signals
from jobdeck.store.sqlite.datagrams import CHANGE_GAP, NO_SOCKET, DatagramPeers
from jobdeck.store.sqlite.differences import SqliteDifferences
from jobdeck.store.sqlite.engines import prepare_file, reader_engine, writer_engine
from jobdeck.store.transaction import Hint, I, R, Verb

P = ParamSpec("P")
T = TypeVar("T")

_ITEMS_PER_COMMIT = 1_000


class SqliteDatabase:
    """See `Database`."""

    def __init__(self, path: Path, *, busy_timeout: float = 5.0, readers: int = 4) -> None:
        self.path = path
        self.differences: Differences = SqliteDifferences()
        self.signals = Signals()
        self.offset_us = 0
        self._peers = DatagramPeers(path, self.signals)
        self._readers = reader_engine(path, busy_timeout, readers)
        self._reading = ThreadPoolExecutor(readers, "jobdeck-reader")
        self._closed = False
        self._writer = _Writer(self, writer_engine(path, busy_timeout))

    @property
    def deafness(self) -> Deafness | None:
        return None if self._peers.is_open else NO_SOCKET

    async def open(self) -> None:
        prepare_file(self.path)
        await asyncio.to_thread(self._writer.start)
        self._peers.open()

    async def close(self) -> None:
        self._closed = True
        await asyncio.to_thread(self._writer.stop)
        self._peers.close()
        await asyncio.to_thread(self._reading.shutdown)
        # Whoever closes last writes the log into the file.
        await asyncio.to_thread(self._readers.dispose)

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
        def read() -> T:
            with translated(), self._readers.begin() as conn:
                return query(conn, *args, **kwargs)

        if self._closed:
            raise DatabaseUnavailable("the database is closed")
        found: T = await outcome(asyncio.get_running_loop().run_in_executor(self._reading, read))
        return found

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
        self._calling: set[asyncio.AbstractEventLoop] = set()
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
        # Not at once: what the loop's callbacks of this turn bring besides goes into the same transaction.
        if loop not in self._calling:
            self._calling.add(loop)
            loop.call_soon(self._call, loop)

    def _call(self, loop: asyncio.AbstractEventLoop) -> None:
        self._calling.discard(loop)
        with self._wake:
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
