"""The notice that an attempt should stop, for an event loop and for plain threads alike."""

from __future__ import annotations

import asyncio
import threading

from jobdeck.context import CancelReason


class StopNotice:
    """Set once, from any thread; wakes whoever waits for it, in a thread or on any loop."""

    def __init__(self) -> None:
        self.reason: CancelReason | None = None
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._waiters: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    def set(self, reason: CancelReason) -> None:
        """Give notice; the first reason stays."""
        with self._lock:
            if self.reason is not None:
                return
            self.reason = reason
            self._event.set()
            for loop, event in self._waiters:
                loop.call_soon_threadsafe(event.set)

    def wait_sync(self, seconds: float) -> bool:
        """Wait in a thread; True as soon as notice was given."""
        # The most a lock can wait; nobody sleeps 292 years.
        return self._event.wait(min(seconds, threading.TIMEOUT_MAX))

    async def wait(self, seconds: float) -> bool:
        """Wait on the running loop; True as soon as notice was given."""
        event = asyncio.Event()
        waiter = (asyncio.get_running_loop(), event)
        with self._lock:
            if self.reason is not None:
                return True
            self._waiters.add(waiter)
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return False
        finally:
            with self._lock:
                self._waiters.discard(waiter)
        return True
