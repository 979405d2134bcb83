"""Waiting for a database that is not there yet, as when a whole machine room starts at the same time."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from contextlib import suppress

from jobdeck.errors import DatabaseRefused, DatabaseUnavailable

_log = logging.getLogger("jobdeck.store.arrival")
# Seconds between two looks: doubled each time. A database comes back for all of its workers at once, so none looks
# in step with the others.
_PAUSE_FIRST = 0.5
_PAUSE_MAX = 10.0


class Arrival:
    """The pauses between one try and the next, said aloud, until it works or `stop` is set."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop
        self._pause = _PAUSE_FIRST
        self._began = time.monotonic()
        self._waited = False

    async def look_again(self, error: DatabaseUnavailable) -> bool:
        """Pause after a try that failed with `error`; False where there is to be no other one.

        Raises the error where waiting does not help.
        """
        if isinstance(error, DatabaseRefused):
            raise error
        pause = random.uniform(self._pause / 2, self._pause)
        _log.warning("%s; waiting for it, the next look is in %.1f s", error, pause)
        self._pause = min(self._pause * 2, _PAUSE_MAX)
        self._waited = True
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), pause)
        return not self._stop.is_set()

    def arrived(self) -> None:
        """It works."""
        if self._waited:
            _log.warning("the database is there, after %.1f s", time.monotonic() - self._began)
