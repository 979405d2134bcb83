"""The target database of one run: one connection, whole transactions."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import URL, Connection, event

from jobdeck import Discard
from jobdeck_handlers.databases.failures import is_of_target, verdict

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")

_BUSY_SECONDS: Final = 10.0
"""How long to wait for another writer of a SQLite file. Its order is not fair: 1-2 s is a usual worst case."""
_CONNECT_SECONDS: Final = 10.0
_COMMAND_SECONDS: Final = 600.0
"""One statement; the longest change the type of a column or swap in the content of a whole table."""
_POSTGRES_SETTINGS: Final = {
    # Milliseconds. A worker that is frozen inside a transaction keeps its locks this long and not for ever; less
    # than a lease (30 s), so that they are free when the run is taken over.
    "idle_in_transaction_session_timeout": "10000",
    "lock_timeout": "30000",
}
_PRAGMAS: Final = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "trusted_schema=OFF")


class Target:
    """An open target."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in one transaction: all of it, or nothing where it raises.

        A cancellation waits for the end of the transaction, so that it is known what became of it. Raises Retry
        or Discard for errors of the database, and whatever `work` raises.
        """
        task = asyncio.ensure_future(self._run(work))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await _end_of(task)
            raise

    async def _run(self, work: Callable[[Connection], T]) -> T:
        try:
            async with self._engine.begin() as conn:
                return await conn.run_sync(work)
        except Exception as error:
            if is_of_target(error):
                raise verdict(error) from error
            raise


async def _end_of(task: asyncio.Future[Any]) -> None:
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    if not task.cancelled():
        task.exception()


@asynccontextmanager
async def open_target(url: URL, job_type: str = "http_sync") -> AsyncIterator[Target]:
    """The database at `url`; a SQLite file is made (mode 0600) where it is missing. Raises Discard.

    A server lists the connection under the name of the job type.
    """
    engine = _engine(url, job_type)
    try:
        yield Target(engine)
    finally:
        await asyncio.shield(engine.dispose())


def _engine(url: URL, job_type: str) -> AsyncEngine:
    # Here, because it brings the whole ORM with it: 7 MiB that a worker without syncs does without.
    from sqlalchemy.ext.asyncio import create_async_engine

    # Values are the source's data: they do not belong into messages and logs.
    options: dict[str, Any] = {"pool_size": 1, "max_overflow": 0, "hide_parameters": True}
    if url.get_backend_name() == "sqlite":
        _make_private(Path(str(url.database)))
        engine = create_async_engine(url, connect_args={"timeout": _BUSY_SECONDS}, **options)
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_immediate)
        return engine
    connect = {
        "timeout": _CONNECT_SECONDS,
        "command_timeout": _COMMAND_SECONDS,
        "server_settings": {"application_name": f"jobdeck {job_type}"} | _POSTGRES_SETTINGS,
        # A prepared statement is refused once a column it reads has another type, and columns are widened here.
        "prepared_statement_cache_size": 0,
        "statement_cache_size": 0,
    }
    try:
        return create_async_engine(url, connect_args=connect, **options)
    except ModuleNotFoundError:
        raise Discard("this worker cannot reach PostgreSQL: install jobdeck[postgres]") from None


def _make_private(path: Path) -> None:
    # SQLite would make it readable for everybody; its companion files take over the mode of this one.
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise Discard(f"the target file cannot be made: {error.strerror}") from None


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # First of all: else the driver opens transactions by itself, and the pragmas would fall into one.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_immediate(conn: Connection) -> None:
    conn.exec_driver_sql("BEGIN IMMEDIATE")
