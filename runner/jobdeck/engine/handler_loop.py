"""The loop handlers run on: a thread of its own, so that a handler that blocks it never stops a heartbeat."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from jobdeck.engine.loops import new_event_loop

_log = logging.getLogger("jobdeck.engine.handler_loop")
# How long tasks that handlers have left behind may take to end.
_LEFT_OVER = 1.0


class HandlerLoop:
    """Runs coroutines in batches and tells, in batches, which have ended."""

    def __init__(self, name: str = "jobdeck-handlers") -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._pinged_at: float | None = None
        self._ending = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop itself, once started."""
        if self._loop is None:
            raise RuntimeError("the handlers' loop has not been started")
        return self._loop

    def start(self) -> None:
        """Start the thread."""
        self._loop = new_event_loop()
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not self._ending:
            try:
                self.loop.run_forever()
            except BaseException as error:
                # asyncio lets SystemExit of any task through; one handler's exit must not end the others.
                _log.error("a task of a handler raised %s; the handlers' loop goes on", type(error).__name__)
        self._end_tasks()
        self.loop.close()

    def _end_tasks(self) -> None:
        pending = asyncio.all_tasks(self.loop)
        for task in pending:
            task.cancel()
        with suppress(TimeoutError, SystemExit, KeyboardInterrupt):
            if pending:
                self.loop.run_until_complete(asyncio.wait_for(_quiet(pending), _LEFT_OVER))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())

    def submit(self, starts: Sequence[Callable[[], None]]) -> None:
        """Call these on the loop, in one hand-over."""
        self.loop.call_soon_threadsafe(_call_all, starts)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run one coroutine there."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def lag(self) -> float:
        """Seconds for which the loop has not answered; 0 while it does. Each call asks anew."""
        asked = self._pinged_at
        if asked is not None:
            return time.monotonic() - asked
        self._pinged_at = time.monotonic()
        self.loop.call_soon_threadsafe(self._answer)
        return 0.0

    def _answer(self) -> None:
        self._pinged_at = None

    def stop(self, timeout: float) -> bool:
        """End the thread; False where something on it does not let go within `timeout` seconds. Blocks."""
        self._ending = True
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(timeout)
        return not self._thread.is_alive()


def _call_all(starts: Sequence[Callable[[], None]]) -> None:
    for start in starts:
        start()


async def _quiet(tasks: set[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
