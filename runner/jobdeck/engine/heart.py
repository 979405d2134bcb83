"""The signs of life of a worker: beats that keep its leases, and the look for leases of others that have expired."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import UUID

from jobdeck.clock import Clock
from jobdeck.context import CancelReason
from jobdeck.engine.execution import Execution
from jobdeck.engine.handler_loop import HandlerLoop
from jobdeck.errors import DatabaseError
from jobdeck.ids import show_id
from jobdeck.store.database import Database
from jobdeck.store.leases import Beat, Held, beat, cancel_flags

_log = logging.getLogger("jobdeck.engine.heart")
# A handler's loop that has not answered for this long is blocked.
STALLED_AFTER = 2.0


@dataclass(frozen=True, slots=True)
class Vitals:
    """What a worker says about itself in a beat."""

    state: str
    running: int
    finished_runs: int


class Body(Protocol):
    """What the heart keeps alive."""

    @property
    def executions(self) -> dict[tuple[UUID, int], Execution]:
        """Attempts whose handler runs, by run and fence."""

    def held_runs(self) -> tuple[UUID, ...]:
        """Runs whose leases are to be kept: running ones and ended ones whose outcome is not stored yet."""

    def vitals(self) -> Vitals:
        """For the beat."""


class Heart:
    """Beats every third of a lease, so that two beats may be lost before anybody takes a run over."""

    def __init__(
        self,
        database: Database,
        worker_id: UUID,
        *,
        lease: float,
        clock: Clock,
        loop: HandlerLoop,
        body: Body,
    ) -> None:
        self._database = database
        self._worker_id = worker_id
        self._lease = lease
        self._clock = clock
        self._loop = loop
        self._body = body
        self.stalled = False
        self._confirmed = clock.monotonic()

    @property
    def interval(self) -> float:
        """Seconds between two beats."""
        return self._lease / 3

    @property
    def in_time(self) -> bool:
        """Whether the last beat that was answered is less than a lease ago: what it extended is still this worker's."""
        return self._clock.monotonic() - self._confirmed < self._lease

    async def beat(self) -> bool:
        """Extend the leases; stop what has been lost or asked to stop. False where the database did not answer."""
        holding = [execution for execution in self._body.executions.values() if not execution.lost]
        asked_at = self._clock.monotonic()
        vitals = self._body.vitals()
        item = Beat(
            worker_id=self._worker_id,
            runs=self._body.held_runs(),
            lease_us=int(self._lease * 1_000_000),
            stalled=self.stalled,
            running=vitals.running,
            finished_runs=vitals.finished_runs,
            state=vitals.state,
            rss_bytes=_rss_bytes(),
            in_time=self.in_time,
        )
        try:
            held = await self._database.write(beat, item)
        except DatabaseError as error:
            _log.warning("no beat for %.1f s: %s", self._clock.monotonic() - self._confirmed, error)
            self.watch_silence()
            return False
        # Two beats may be under way, and be answered in another order.
        self._confirmed = max(self._confirmed, asked_at)
        self._compare(holding, held)
        return True

    def watch_silence(self) -> None:
        """Stop what no answer of the database has confirmed for a whole lease: others may have taken it by now."""
        now = self._clock.monotonic()
        for execution in list(self._body.executions.values()):
            if now - max(self._confirmed, execution.claimed_at) > self._lease:
                self._lose(execution)

    def _compare(self, holding: list[Execution], held: list[Held]) -> None:
        current = {(item.run_id, item.fence): item for item in held}
        for execution in holding:
            item = current.get((execution.run.id, execution.run.fence))
            if execution.key not in self._body.executions:
                continue
            if item is None:
                self._lose(execution)
            elif item.cancel_requested:
                execution.stop(CancelReason.USER)

    def _lose(self, execution: Execution) -> None:
        if not execution.lost and not execution.ended:
            _log.error("lease lost on %s: its handler is told to stop", show_id("run", execution.run.id))
            execution.stop(CancelReason.LEASE_LOST)

    async def look_for_cancels(self) -> None:
        """Stop what people have asked to stop, sooner than the next beat would."""
        if not self._body.executions:
            return
        try:
            asked = set(await self._database.read(cancel_flags, self._worker_id))
        except DatabaseError:
            return
        for execution in list(self._body.executions.values()):
            if execution.key in asked:
                execution.stop(CancelReason.USER)

    def watch_loop(self) -> bool:
        """Notice whether the handlers' loop answers; True where that has changed."""
        stalled = self._loop.lag() > STALLED_AFTER and any(
            execution.blocks_loop for execution in self._body.executions.values()
        )
        changed = stalled is not self.stalled
        self.stalled = stalled
        if changed:
            _log.warning("a handler blocks its loop" if stalled else "the handlers' loop answers again")
        return changed


def _rss_bytes() -> int | None:
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
