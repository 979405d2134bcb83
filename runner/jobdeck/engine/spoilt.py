"""What a worker does about runs whose rows make it fail: it has them ended, and goes on with the others."""

from __future__ import annotations

import logging
from collections.abc import Callable
from uuid import UUID

from jobdeck.errors import DatabaseError
from jobdeck.ids import show_id
from jobdeck.store.batch import Results
from jobdeck.store.database import Database
from jobdeck.store.quarantine import Quarantine, quarantine

_log = logging.getLogger("jobdeck.engine.spoilt")


class SpoiltRows:
    """Calls `on_ended` where there is less in the way, `on_helpless` with the cause where nothing was found to be."""

    def __init__(
        self,
        database: Database,
        actor: str,
        *,
        on_ended: Callable[[], None],
        on_helpless: Callable[[Exception], None],
    ) -> None:
        self._database = database
        self._actor = actor
        self._on_ended = on_ended
        self._on_helpless = on_helpless
        self.times = 0
        """How often something was ended."""

    def end_run(self, run_id: UUID, why: str, cause: Exception) -> None:
        """End the run that this worker holds and cannot work on."""
        self._end(Quarantine(self._actor, run_id, f"{why} ({type(cause).__name__})"), cause)

    def end_waiting(self, cause: Exception, times: int) -> None:
        """End those that keep a claim from succeeding, which was sent when something had been ended so many `times`."""
        _log.error("a claim has failed: %s", cause)
        self._end(Quarantine(self._actor), cause, times)

    def _end(self, item: Quarantine, cause: Exception, times: int = 0) -> None:
        def done(results: Results) -> None:
            (ended,) = results[0]
            if isinstance(ended, Exception):
                about = (
                    "what keeps a claim from succeeding"
                    if item.run_id is None
                    else show_id("run", item.run_id)
                )
                _log.error("%s cannot be ended: %s", about, item.why, exc_info=ended)
            if isinstance(ended, list) and ended:
                for run_id in ended:
                    shown = show_id("run", run_id)
                    _log.error("%s is ended: its row in the database has been changed by hand", shown)
                self.times += 1
                self._on_ended()
            elif item.run_id is None and self.times > times:
                # Two claims failed of the same rows: the other one has had them ended.
                self._on_ended()
            elif item.run_id is None and not isinstance(ended, DatabaseError):
                self._on_helpless(cause)

        try:
            self._database.submit([(quarantine, [item])], done)
        except DatabaseError as error:
            done([[error]])
