"""How runs went: statistics of the team."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from jobdeck.client.guard import needs
from jobdeck.client.session import Session
from jobdeck.errors import ValidationError
from jobdeck.people import Permission
from jobdeck.statistics import Grouping, Statistics
from jobdeck.store.lists import statistics as store

_WINDOW_MAX: Final = timedelta(days=366)
DAY: Final = timedelta(days=1)


class StatisticsApi:
    """Counted anew at every call, over the runs that were made in the window."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @needs(Permission.JOBS_READ)
    async def team(self, *, window: timedelta = DAY, by: Grouping | None = None) -> Statistics:
        """All runs of the team, and by status, job type or queue. Raises ValidationError for a bad window."""
        return await self._session.read(store.statistics, window=checked_window(window), by=by)


def checked_window(window: timedelta) -> timedelta:
    """Raises ValidationError."""
    if not timedelta(0) < window <= _WINDOW_MAX:
        raise ValidationError("a window is more than 0s and at most 366d", field="window")
    return window
