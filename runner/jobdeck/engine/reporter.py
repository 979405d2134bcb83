"""Stores what running attempts report, all of them in one write, a few times a second."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from jobdeck.engine.execution import Execution
from jobdeck.errors import DatabaseError, JobdeckError
from jobdeck.store.database import Database
from jobdeck.store.leases import Report, report

_log = logging.getLogger("jobdeck.engine.reporter")


class Reporter:
    """`flush` is never run twice at once, so the lines of a run stay in their order."""

    def __init__(
        self, database: Database, running: Callable[[], Iterable[Execution]], *, on_idle: Callable[[], None]
    ) -> None:
        self._database = database
        self._running = running
        self._on_idle = on_idle
        self.busy = False
        """Whether a flush is under way: an outcome, with the last lines of its run, has to wait for it."""

    async def flush(self) -> None:
        """Store what is new. What cannot be stored now is kept for the next time."""
        if self.busy:
            return
        taken = [(execution, found) for execution in self._running() if (found := execution.mailbox.take())]
        if not taken:
            return
        self.busy = True
        try:
            results = await self._store([found for _, found in taken])
            for (execution, found), result in zip(taken, results, strict=True):
                if isinstance(result, DatabaseError):
                    execution.mailbox.put_back(found)
        finally:
            self.busy = False
            self._on_idle()

    async def _store(self, reports: list[Report]) -> list[JobdeckError | None]:
        try:
            return await self._database.write_many(report, reports)
        except DatabaseError as error:
            _log.warning("progress and logs wait: %s", error)
            return [error] * len(reports)
