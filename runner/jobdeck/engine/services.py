"""What running handlers ask of the worker: checkpoints, the state of their lease, children."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar
from uuid import UUID

from jobdeck.clock import Clock
from jobdeck.engine.heart import Heart
from jobdeck.engine.options import EnqueueChild
from jobdeck.engine.pump import Pump
from jobdeck.errors import DatabaseError, OutcomeUnknown
from jobdeck.ids import show_id
from jobdeck.store.claim import ClaimedRun
from jobdeck.store.database import Database
from jobdeck.store.leases import LeaseCheck, SaveCheckpoint, check_lease, save_checkpoint

T = TypeVar("T")

_log = logging.getLogger("jobdeck.engine.services")
# Seconds between two tries while the database is away.
_PAUSE_MIN = 0.1
_PAUSE_MAX = 1.0
# Options of a run that is not due at once.
_LATER = {"delay", "at"}


class RunServices:
    """See `run_context.Services`. A question waits for a database that is away, for as long as its attempt goes on.

    So an outage that is shorter than the lease fails no attempt; a longer one ends the attempt by itself.
    """

    def __init__(
        self, database: Database, pump: Pump, clock: Clock, enqueue_child: EnqueueChild, heart: Heart
    ) -> None:
        self._database = database
        self._pump = pump
        self._clock = clock
        self._enqueue_child = enqueue_child
        self._heart = heart

    async def save_checkpoint(self, run: ClaimedRun, state: str) -> None:
        item = SaveCheckpoint(run.id, run.fence, state)
        await self._patiently(run, lambda: self._database.write(save_checkpoint, item))

    async def verify_lease(self, run: ClaimedRun) -> None:
        await self._patiently(run, lambda: self._database.write(check_lease, self._question(run)))

    def _question(self, run: ClaimedRun) -> LeaseCheck:
        return LeaseCheck(run.id, run.fence, self._heart.in_time)

    async def enqueue_child(
        self, run: ClaimedRun, job_type: str, params: Mapping[str, Any], options: Mapping[str, Any]
    ) -> UUID:
        if not _LATER & options.keys():
            self._pump.join_write()
        return await self._patiently(run, lambda: self._enqueue_child(run, job_type, params, options))

    async def _patiently(self, run: ClaimedRun, ask: Callable[[], Awaitable[T]]) -> T:
        pause = _PAUSE_MIN
        while True:
            try:
                return await ask()
            except OutcomeUnknown:
                # Done again it might be done twice.
                raise
            except DatabaseError as error:
                if not self._goes_on(run):
                    raise
                if pause == _PAUSE_MIN:
                    _log.warning("%s waits for the database: %s", show_id("run", run.id), error)
            await self._clock.sleep(pause)
            pause = min(pause * 2, _PAUSE_MAX)

    def _goes_on(self, run: ClaimedRun) -> bool:
        execution = self._pump.slots.running.get((run.id, run.fence))
        return execution is not None and not execution.ctx.cancelled
