"""Connections kept open for the next request.

httpcore's own pool is not used: when the task of a request is cancelled by asyncio, it can lose a
connection together with its place in the pool (its shields are those of anyio, which asyncio's
cancellation passes through). Here a connection is in the hands of one request, which keeps or closes it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import httpcore

from jobdeck.net.connect import Connector, GuardedStream
from jobdeck.net.exchange import Exchange

CONNECTIONS: Final = 20
"""Most requests of one client under way at a time, and most idle connections."""
# Shorter than the keep-alive of common servers (5 s and more), so that a request is hardly ever sent on a
# connection that the server is closing just then.
_KEEPALIVE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class _Connection:
    origin: httpcore.Origin
    http: httpcore.AsyncHTTP11Connection
    stream: GuardedStream


class Pool:
    """At most 20 connections in use; each serves one request at a time and one origin for its life."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._places = asyncio.Semaphore(CONNECTIONS)
        self._idle: deque[_Connection] = deque()

    @asynccontextmanager
    async def connection(
        self, origin: httpcore.Origin, exchange: Exchange
    ) -> AsyncIterator[httpcore.AsyncHTTP11Connection]:
        """A connection for `exchange`; kept if its response was read to the end, else closed."""
        async with self._places:
            connection = await self._take(origin, exchange)
            try:
                yield connection.http
            finally:
                if connection.http.is_idle() and not connection.http.has_expired():
                    self._idle.append(connection)
                else:
                    await connection.stream.aclose()

    async def _take(self, origin: httpcore.Origin, exchange: Exchange) -> _Connection:
        await self._drop_expired()
        for connection in reversed(self._idle):
            if connection.origin == origin:
                self._idle.remove(connection)
                connection.stream.exchange = exchange
                return connection
        exchange.connecting()
        stream = await self._connector.open(exchange)
        exchange.connected()
        http = httpcore.AsyncHTTP11Connection(origin, stream, keepalive_expiry=_KEEPALIVE_SECONDS)
        return _Connection(origin, http, stream)

    async def _drop_expired(self) -> None:
        """Close what is too old or was closed by the server, and the oldest of what is one too many."""
        while (expired := next((each for each in self._idle if each.http.has_expired()), None)) is not None:
            self._idle.remove(expired)
            await expired.stream.aclose()
        while len(self._idle) >= CONNECTIONS:
            await self._idle.popleft().stream.aclose()

    async def aclose(self) -> None:
        """Close the idle connections; those in use are closed by their requests."""
        while self._idle:
            await self._idle.pop().stream.aclose()
