"""Whether the database's clock has been set: leases go by it, and so no worker takes one over that a jump has ended."""

from __future__ import annotations

import logging
from typing import Final, NamedTuple
from uuid import UUID

from jobdeck.clock import Clock
from jobdeck.store.database import Database
from jobdeck.store.fleet import others_alive

_log = logging.getLogger("jobdeck.engine.clock_watch")
# Seconds. Machines that keep their time by NTP are within milliseconds of each other.
_NOTICED: Final = 2.0
# Of a lease: a jump that is shorter ends none of which a beat is not long overdue.
_PART_OF_LEASE: Final = 1 / 6
# An answer that took longer says too little about the moment it was made in.
_SOON: Final = 1.0


class Look(NamedTuple):
    """What the database's clock showed, and since when that clock can be trusted, by time that nobody can set."""

    now: int
    """Microseconds since 1970."""
    steady_us: int | None
    """For how long workers have had the time to beat by it; None: there is no reason to doubt it."""


class _Ahead(NamedTuple):
    """Of monotonic time, in seconds: the database's clock is ahead by at least and at most so much."""

    least: float
    most: float


class ClockWatch:
    """Holds the database's clock against this host's, and against time that nobody can set."""

    def __init__(self, database: Database, clock: Clock, worker_id: UUID | None, lease: float) -> None:
        self._database = database
        self._clock = clock
        self._worker_id = worker_id
        self._lease = lease
        self._off = 0.0
        self._ahead: _Ahead | None = None
        self._began = clock.monotonic()
        self._new = True
        """It has not been here for a lease: the clock may have been set just before."""
        self._set_at: float | None = None
        """When the clock was last seen to have jumped ahead."""

    async def look(self) -> Look:
        """Say in the log what has changed since the last look. Raises DatabaseError."""
        before = self._clock.monotonic()
        now = await self._database.read(self._database.now_of)
        wall, after = self._clock.wall_us(), self._clock.monotonic()
        self._compare(_Ahead(now / 1_000_000 - after, now / 1_000_000 - before), after)
        if after - before <= _SOON:
            self._tell_off((wall - now) / 1_000_000)
        since = await self._steady_since(now, before)
        return Look(now, None if since is None else int((before - since) * 1_000_000))

    async def _steady_since(self, now: int, at: float) -> float | None:
        if self._set_at is not None:
            return self._set_at
        # Who is alive has seen more than a new worker, and takes over what is to be taken over.
        self._new = (
            self._new
            and at - self._began <= self._lease
            and await self._database.read(others_alive, self._worker_id, now)
        )
        return self._began if self._new else None

    def _compare(self, ahead: _Ahead, at: float) -> None:
        last, self._ahead = self._ahead, ahead
        if last is None:
            return
        least = min(_NOTICED, self._lease * _PART_OF_LEASE)
        if ahead.least - last.most > least:
            self._set_at = at
            words = "live workers get the time for a beat before any run of theirs is taken over"
            self._tell_set(ahead.least - last.most, words)
        elif last.least - ahead.most > least:
            self._tell_set(ahead.most - last.least, "runs of silent workers are taken over so much later")

    def _tell_set(self, seconds: float, words: str) -> None:
        _log.warning(
            "the database's clock has been set by %+.0f s: leases, schedules and times to live go by it; %s",
            seconds,
            words,
        )

    def _tell_off(self, off: float) -> None:
        if abs(off - self._off) > _NOTICED:
            self._off = off
            _log.warning("this host's clock is %+.0f s off the database's, by which everything is due", off)
