"""Whether a connection pooler in transaction mode stands between this process and PostgreSQL.

Behind one a backend belongs to a client for a transaction only. Whatever lives as long as a session is lost or met by
strangers: LISTEN hears nothing, and a prepared statement is looked for where it never was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
from sqlalchemy import URL

from jobdeck.store.failures import unreachable
from jobdeck.store.signals import Deafness

# How long a query may take that nothing but a pooler without a free backend can hold up.
_WAIT: Final = 2.0
# While others take backends too, each of the two may be given its own again; so often in a row it is theirs.
_LOOKS: Final = 4
_WHICH: Final = "SELECT pg_backend_pid()"

BEHIND_POOLER: Final = Deafness(
    "the database is behind a connection pooler in transaction mode: no notification reaches this process, new runs "
    "and cancels are found by polling",
    "set the pooler to session mode, or connect to PostgreSQL directly",
)


def dsn_of(url: URL) -> str:
    """The URL as asyncpg itself reads it: `sslmode` and the like mean what they mean to every PostgreSQL program."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


async def is_pooled(url: URL, timeout: float) -> bool:
    """Look whether transactions of one connection are worked by changing backends. Raises DatabaseUnavailable.

    A pooler, whatever its mode, has to tell its clients a process id of its own making, for cancels; so where that is
    the one of the backend, one connection and one query are enough.
    """
    try:
        return await _look(dsn_of(url), timeout)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise unreachable(error) from error


async def _look(dsn: str, timeout: float) -> bool:
    async with _connected(dsn, timeout) as first:
        backend = await _backend(first)
        if backend == first.get_server_pid():
            return False
        async with _connected(dsn, timeout) as second:
            return await _change_backends(first, second, backend)


async def _change_backends(first: Any, second: Any, backend: int) -> bool:
    """Whether two connections, one of them in a transaction while the other looks, do not keep a backend each."""
    of_first, of_second = {backend}, set()
    for _ in range(_LOOKS):
        async with second.transaction():
            of_second.add(await second.fetchval(_WHICH))
            try:
                of_first.add(await asyncio.wait_for(_backend(first), _WAIT))
            except TimeoutError:
                # Its backend was free a moment ago: the transaction beside it has it now.
                return True
        # One that takes its backends in turn may have come round to the first one again.
        of_second.add(await _backend(second))
        if len(of_first) > 1 or len(of_second) > 1 or not of_first.isdisjoint(of_second):
            return True
    return False


@asynccontextmanager
async def _connected(dsn: str, timeout: float) -> AsyncIterator[Any]:
    conn = await asyncpg.connect(dsn, timeout=timeout, command_timeout=timeout, statement_cache_size=0)
    try:
        yield conn
    finally:
        conn.terminate()


async def _backend(conn: Any) -> int:
    async with conn.transaction():
        found: int = await conn.fetchval(_WHICH)
        return found
