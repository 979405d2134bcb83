"""A thread for the blocking work of one run: the worker's loop is for all runs, and so are its threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

T = TypeVar("T")

# Seconds until a call is interrupted again: one that had not begun has not noticed.
_AGAIN: Final = 0.05


def do_nothing() -> None:
    """What there is to interrupt where nothing waits."""


class OwnThread:
    """Does one call after the other. A cancellation interrupts the call, and waits until it has ended."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "jobdeck-export")
        self.interrupt: Callable[[], None] = do_nothing
        """Makes the call that is under way end soon; may come at any time, and more than once."""

    async def __call__(self, call: Callable[..., T], *args: Any) -> T:
        """The result of `call(*args)`, or what it raises."""
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._pool, partial(call, *args))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await until_ended(future, again=self.interrupt)
            raise

    def close(self) -> None:
        """End the thread once it has nothing to do."""
        self._pool.shutdown(wait=False)


async def until_ended(future: asyncio.Future[Any], again: Callable[[], None] = do_nothing) -> None:
    """Wait, whatever is cancelled meanwhile, until the future is done; call `again` from time to time."""
    while not future.done():
        again()
        with suppress(asyncio.CancelledError):
            await asyncio.wait({future}, timeout=_AGAIN)
    if not future.cancelled():
        # Whoever waits for an end does not ask how it came; asyncio would complain that nobody did.
        future.exception()
