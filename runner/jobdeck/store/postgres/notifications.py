"""LISTEN on a connection of its own: the hints of other processes. Polling is the truth, this only shortens it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import URL

from jobdeck.errors import DatabaseError
from jobdeck.store.postgres.differences import CHANNEL
from jobdeck.store.postgres.pooler import dsn_of
from jobdeck.store.signals import Deafness, Signals
from jobdeck.store.transaction import ALL_HINTS, Hint

_CHECK_EVERY = 10.0
_CHECK_TIMEOUT = 5.0
_RECONNECT_MAX = 15.0


UNHEARD: Final = Deafness(
    "notifications of the database do not reach this process: new runs and cancels are found by polling",
    "look for a proxy or firewall that drops them; LISTEN needs a session of its own",
)


class NotificationListener:
    """Keeps a LISTEN alive: checks it every 10 s, makes it anew as soon as it is gone, and hints at once after that.

    A LISTEN counts once it has heard a notification that was sent over another connection, as hints are.
    """

    def __init__(
        self, url: URL, signals: Signals, notify: Callable[[str], Awaitable[None]], *, own: str
    ) -> None:
        """`notify(channel)` sends a notification over another connection; `own` is the sender not to be heard."""
        self._dsn = dsn_of(url)
        self._own = own
        self._signals = signals
        self._notify = notify
        self._task: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()
        self._own_channel = f"{CHANNEL}_{uuid4().hex}"
        self._echo = asyncio.Event()

    @property
    def deafness(self) -> Deafness | None:
        """Whether the LISTEN of now has been seen to work."""
        return None if self._listening.is_set() else UNHEARD

    async def start(self) -> None:
        """Begin in the background and wait a moment for the first LISTEN."""
        self._task = asyncio.create_task(self._run(), name="jobdeck-listen")
        await _set_within(self._listening, _CHECK_TIMEOUT)

    async def stop(self) -> None:
        """End the listener and its connection."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        import asyncpg

        pause = 0.5
        while True:
            with contextlib.suppress(
                OSError,
                asyncpg.PostgresError,
                asyncpg.InterfaceError,
                # What the driver says of a session that the server has ended and not closed yet.
                asyncpg.InternalClientError,
                TimeoutError,
                DatabaseError,
            ):
                await self._listen(asyncpg)
            if self._listening.is_set():
                pause = 0.5
            self._listening.clear()
            await asyncio.sleep(random.uniform(pause / 2, pause))
            pause = min(pause * 2, _RECONNECT_MAX)

    async def _listen(self, asyncpg: Any) -> None:
        conn = await asyncpg.connect(self._dsn, timeout=_CHECK_TIMEOUT, command_timeout=_CHECK_TIMEOUT)
        gone = asyncio.Event()
        self._echo.clear()
        conn.add_termination_listener(lambda _conn: gone.set())
        try:
            await conn.add_listener(self._own_channel, lambda *_: self._echo.set())
            await conn.add_listener(CHANNEL, self._heard)
            await self._notify(self._own_channel)
            if not await _set_within(self._echo, _CHECK_TIMEOUT):
                return
            self._listening.set()
            # Whatever was said while nobody listened.
            self._signals.publish(ALL_HINTS)
            while not await _set_within(gone, _CHECK_EVERY):
                channels = await conn.fetch("SELECT pg_listening_channels()")
                if not channels:
                    return
        finally:
            conn.terminate()

    def _heard(self, _connection: Any, _pid: int, _channel: str, payload: str) -> None:
        hints, _, sender = payload.partition(" ")
        if sender == self._own:
            # What this process has announced it has heard already.
            return
        with contextlib.suppress(ValueError):
            self._signals.publish(Hint(int(hints) & ALL_HINTS.value))


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    # Not `wait_for`, which before Python 3.12 forgets a cancel that comes along with what it waits for.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
