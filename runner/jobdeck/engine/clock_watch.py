"""Whether clocks have been set: nothing is decided by that, but whoever wonders later finds it in the log."""

from __future__ import annotations

import logging
from typing import Final

from jobdeck.clock import Clock
from jobdeck.store.database import Database

_log = logging.getLogger("jobdeck.engine.clock_watch")
# Seconds. Machines that keep their time by NTP are within milliseconds of each other.
_NOTICED: Final = 2.0
# An answer that took longer says too little about the moment it was made in.
_SOON: Final = 1.0


class ClockWatch:
    """Holds the database's clock against this host's, and against time that nobody can set."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._off = 0.0
        self._ahead: float | None = None
        """Of monotonic time, when it was last looked at."""

    async def look(self) -> None:
        """Say what has changed since the last look. Raises DatabaseError."""
        before = self._clock.monotonic()
        now = await self._database.read(self._database.now_of) / 1_000_000
        wall, after = self._clock.wall_us() / 1_000_000, self._clock.monotonic()
        if after - before > _SOON:
            return
        self._tell_set(now - after)
        self._tell_off(wall - now)

    def _tell_set(self, ahead: float) -> None:
        last, self._ahead = self._ahead, ahead
        if last is not None and abs(ahead - last) > _NOTICED:
            _log.warning(
                "the database's clock has been set by %+.0f s: leases, schedules and times to live go by it",
                ahead - last,
            )

    def _tell_off(self, off: float) -> None:
        if abs(off - self._off) > _NOTICED:
            self._off = off
            _log.warning("this host's clock is %+.0f s off the database's, by which everything is due", off)
