"""Another process in the middle of a transaction on PostgreSQL, so that a race has one outcome only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID

from psycopg import RawCursor
from sqlalchemy import Connection, create_engine, make_url, select, text
from sqlalchemy.pool import NullPool

from jobdeck.store.postgres.differences import PostgresDifferences
from jobdeck.store.schema import runs
from jobdeck.store.transaction import Tx, Verb

I = TypeVar("I")  # noqa: E741  the item of a verb
R = TypeVar("R")

_PATIENCE = 20.0
_WAITING = text(
    "SELECT count(*) FROM pg_stat_activity WHERE :me = ANY(pg_blocking_pids(pid)) AND wait_event_type = 'Lock'"
)


class _ByPsycopg(PostgresDifferences):
    """The same statements over a driver that does not need an event loop."""

    def execute(self, conn: Connection, sql: str, bound: Sequence[Any]) -> Sequence[Sequence[Any]]:
        driver: Any = conn.connection.dbapi_connection
        with RawCursor(driver) as cursor:
            cursor.execute(sql, [_plain(value) for value in bound])
            return cursor.fetchall() if cursor.description else ()


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, str) else value


class Rival:
    """Holds one transaction open over a connection of its own, and can tell when somebody waits for it."""

    def __init__(self, url: str, *, offset_us: int = 0) -> None:
        self._engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
        self._conn = self._engine.connect()
        self._watch = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self._pid = self._conn.execute(text("SELECT pg_backend_pid()")).scalar_one()
        differences = _ByPsycopg()
        self.tx = Tx(self._conn, differences.now(self._conn, offset_us), differences)

    def run(self, verb: Verb[I, R], item: I) -> Any:
        """What the verb does to one item, not committed."""
        (result,) = verb(self.tx, [item])
        return result

    def wait_at_most(self, seconds: float) -> None:
        """Fail where a lock is not to be had so soon: somebody who waits for this one holds it."""
        self._conn.execute(text(f"SET LOCAL lock_timeout = '{int(seconds * 1_000)}ms'"))

    def lock_run(self, run_id: UUID) -> None:
        """Hold the row of a run as whoever changes it does."""
        query = select(runs.c.id).where(runs.c.id == run_id)
        self._conn.execute(self.tx.differences.locked(query, by=runs.c.id)).one()

    async def until_waited_for(self) -> None:
        """Return once another transaction waits for a lock of this one."""
        deadline = time.monotonic() + _PATIENCE
        while not self._is_waited_for():
            assert time.monotonic() < deadline, "nobody waits for the rival's locks"
            await asyncio.sleep(0)

    async def until_waited_for_or(self, task: asyncio.Task[Any]) -> None:
        """Return once another transaction waits for a lock of this one, or the task is done without waiting."""
        while not task.done() and not self._is_waited_for():
            await asyncio.sleep(0)

    def _is_waited_for(self) -> bool:
        return bool(self._watch.execute(_WAITING, {"me": self._pid}).scalar_one())

    def commit(self) -> None:
        self._conn.commit()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.close()
        self._conn.close()
        self._engine.dispose()
