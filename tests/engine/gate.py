"""Synchronisation between a test and the handlers it starts, which run on another loop or in a thread."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

from jobdeck import Cancelled, Context

# Far beyond what anything here takes; a test that gets here has failed.
PATIENCE = 20.0


async def asked_to_stop(ctx: Context) -> None:
    """Return once the run has been asked to stop. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE):
        with suppress(Cancelled):
            await ctx.sleep("1h")


class Gate:
    """Opened once, from anywhere; waited for on any event loop or in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened = threading.Event()
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def open(self) -> None:
        with self._lock:
            self._opened.set()
            for loop, event in self._waiters:
                # A waiter whose loop has ended meanwhile no longer waits.
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(event.set)

    @property
    def is_open(self) -> bool:
        return self._opened.is_set()

    async def passed(self) -> None:
        """Wait on an event loop. Raises TimeoutError."""
        event = asyncio.Event()
        with self._lock:
            if self._opened.is_set():
                return
            self._waiters.append((asyncio.get_running_loop(), event))
        async with asyncio.timeout(PATIENCE):
            await event.wait()

    def passed_sync(self) -> None:
        """Wait in a thread, which cannot be interrupted. Raises TimeoutError."""
        if not self._opened.wait(PATIENCE):
            raise TimeoutError
