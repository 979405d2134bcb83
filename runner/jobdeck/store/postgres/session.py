"""A session with the PostgreSQL server, opened so that neither side waits for ever for one that has fallen silent."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from jobdeck.errors import DatabaseUnavailable

# Seconds. Firewalls forget connections that say nothing for some minutes; a peer that is gone is noticed in a minute.
_KEEPALIVE_IDLE: Final = 30
_KEEPALIVE_INTERVAL: Final = 10
_KEEPALIVE_COUNT: Final = 3
_UNACKNOWLEDGED_MS: Final = 30_000


async def open_session(
    dsn: str,
    *,
    connect_timeout: float,
    command_timeout: float | None,
    settings: Mapping[str, str],
    wishes: Mapping[str, str],
    **driver: Any,
) -> asyncpg.Connection[Any]:
    """Connect. The server ends a command after `command_timeout` seconds, and a transaction that idles for as long.

    So what a vanished client had locked is free again. A pooler that refuses such settings, or one of the `wishes`, is
    asked without them.
    """
    wanted = {**settings, **wishes}
    if command_timeout is not None:
        wanted |= _server_limits(command_timeout)
    try:
        session = await asyncpg.connect(dsn, timeout=connect_timeout, server_settings=wanted, **driver)
    except asyncpg.ProtocolViolationError:
        kept = dict(settings)
        session = await asyncpg.connect(dsn, timeout=connect_timeout, server_settings=kept, **driver)
    _keep_alive(session)
    return session


def _server_limits(command_timeout: float) -> dict[str, str]:
    milliseconds = str(int(command_timeout * 1_000))
    return {
        "statement_timeout": milliseconds,
        "idle_in_transaction_session_timeout": milliseconds,
        "tcp_keepalives_idle": str(_KEEPALIVE_IDLE),
        "tcp_keepalives_interval": str(_KEEPALIVE_INTERVAL),
        "tcp_keepalives_count": str(_KEEPALIVE_COUNT),
        "tcp_user_timeout": str(_UNACKNOWLEDGED_MS),
    }


def _keep_alive(session: asyncpg.Connection[Any]) -> None:
    # The driver has no option for this and no other way to its socket.
    transport = getattr(session, "_transport", None)
    sock = None if transport is None else transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", _KEEPALIVE_IDLE),
        ("TCP_KEEPINTVL", _KEEPALIVE_INTERVAL),
        ("TCP_KEEPCNT", _KEEPALIVE_COUNT),
        ("TCP_USER_TIMEOUT", _UNACKNOWLEDGED_MS),
    ):
        # Not every system has each of them.
        if (option := getattr(socket, name, None)) is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


class Watch:
    """Ends the session of `conn` where the server takes longer than `seconds` for what is done inside the block.

    Whatever waits for it then fails, and `silence` says why.
    """

    def __init__(self, conn: AsyncConnection, seconds: float) -> None:
        self._conn = conn
        self._seconds = seconds
        self.silence: DatabaseUnavailable | None = None

    def _end(self) -> None:
        self.silence = DatabaseUnavailable(f"the database has not answered for {self._seconds:g} s")
        inner = self._conn.sync_connection
        if inner is not None and not inner.closed and not inner.invalidated:
            session: Any = inner.connection.driver_connection
            session.terminate()

    def __enter__(self) -> Self:
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._end)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self.silence is not None and isinstance(error, Exception):
            raise self.silence from error
