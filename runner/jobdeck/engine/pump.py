"""The pump moves runs: from the database into free slots, and their outcomes from the slots into the database."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from uuid import UUID

from jobdeck.engine.execution import Execution
from jobdeck.engine.handler_loop import HandlerLoop
from jobdeck.engine.mailbox import Mailbox
from jobdeck.engine.options import WorkerOptions, WorkerParts
from jobdeck.engine.reporter import Reporter
from jobdeck.engine.run_context import RunContext, Surroundings
from jobdeck.engine.slots import Slots
from jobdeck.errors import DatabaseError, JobdeckError
from jobdeck.ids import show_id
from jobdeck.states import AttemptOutcome
from jobdeck.store.claim import Claim, ClaimedRun, claim
from jobdeck.store.drain import nothing_left
from jobdeck.store.finish import Ended, Finish, finish
from jobdeck.verdict import Ending

_log = logging.getLogger("jobdeck.engine.pump")
_POLL_MIN = 0.02
# Between two tries to store outcomes that the database did not take.
_STORE_AGAIN = 0.2
_FAILED = (AttemptOutcome.ERROR, AttemptOutcome.TIMED_OUT)


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn did."""

    stored: bool
    """Whether no outcome is left over."""
    claimed: int


class Pump:
    """Claims and stores in turns; both go into one commit where both are due."""

    def __init__(
        self, parts: WorkerParts, options: WorkerOptions, worker_id: UUID, name: str, loop: HandlerLoop
    ) -> None:
        self._parts = parts
        self._options = options
        self._worker_id = worker_id
        self._name = name
        self._loop = loop
        self._database = parts.database
        self._around: Surroundings | None = None
        self._wake = asyncio.Event()
        self._look_again = True
        self._poll = options.poll
        self._look_at = time.monotonic()
        self._drawn = random.Random()
        self.slots = Slots(options.concurrency, self.wake)
        self.reporter = Reporter(parts.database, lambda: list(self.slots.running.values()))

    def open(self, around: Surroundings) -> None:
        """Name what the attempts will share; before the first turn."""
        self._around = around

    def wake(self) -> None:
        """End the rest between two turns; from any thread."""
        loop = self._around.engine_loop if self._around else None
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._wake.set)

    def look_again(self) -> None:
        """Something may be claimable; from any thread."""
        self._look_again = True
        self.wake()

    async def turn(self) -> Turn:
        """Store what has ended and claim for the slots that are free."""
        self._wake.clear()
        stored, claimed = await asyncio.gather(self.store_endings(), self._claim())
        return Turn(stored, claimed)

    async def rest(self, turn: Turn) -> None:
        """Wait for a reason to take another turn, at most for the poll interval."""
        if self._look_again and self.slots.free and turn.stored and not self.slots.stuck:
            return
        if turn.claimed:
            self._plan_look(_POLL_MIN)
        # The pause goes on where an outcome interrupts it: however many come, what falls due is seen in time.
        pause = max(self._look_at - time.monotonic(), 0)
        try:
            await asyncio.wait_for(self._wake.wait(), pause if turn.stored else max(pause, _STORE_AGAIN))
        except TimeoutError:
            self._plan_look(self._poll * 2)
            self._look_again = True

    def _plan_look(self, poll: float) -> None:
        self._poll = min(poll, self._options.poll)
        pause = min(self._poll * self._drawn.uniform(0.8, 1.2), self._options.poll)
        self._look_at = time.monotonic() + pause

    async def wait_idle(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Store outcomes as they come, until nothing is left, `seconds` have passed or `until()` holds."""
        over = asyncio.ensure_future(self._parts.clock.sleep(seconds))
        over.add_done_callback(lambda _: self._wake.set())
        try:
            while True:
                self._wake.clear()
                stored = await self.store_endings()
                if self.slots.idle or over.done() or until():
                    return
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), None if stored else _STORE_AGAIN)
        finally:
            over.cancel()

    async def nothing_left(self) -> bool:
        """Whether no run that this worker could take is due, and none is running anywhere. False while unknown."""
        database = self._database
        types, queues = tuple(self._parts.plugins.by_type), self._options.queues
        try:
            return await database.read(lambda conn: nothing_left(conn, database.now_of(conn), types, queues))
        except DatabaseError as error:
            _log.warning("cannot tell whether anything is left: %s", error)
            return False

    # -- into the slots -----------------------------------------------------------------------------------------

    async def _claim(self) -> int:
        free = self.slots.free
        if free < 1 or not self._look_again or self.slots.stuck:
            return 0
        self._look_again = False
        request = Claim(
            worker_id=self._worker_id,
            worker=self._name,
            limit=free,
            lease_us=self._options.lease_us,
            job_types=tuple(self._parts.plugins.by_type),
            queues=self._options.queues,
        )
        asked_at = self._parts.clock.monotonic()
        try:
            runs = await self._database.write(claim, request)
        except DatabaseError as error:
            _log.warning("cannot claim: %s", error)
            return 0
        if len(runs) == free:
            self._look_again = True
        self._start(runs, asked_at)
        return len(runs)

    def _start(self, runs: list[ClaimedRun], claimed_at: float) -> None:
        starters = []
        for run in runs:
            execution = self._execution(run, claimed_at)
            self.slots.running[execution.key] = execution
            starters.append(execution.starter())
        if starters:
            self._loop.submit(starters)

    def _execution(self, run: ClaimedRun, claimed_at: float) -> Execution:
        assert self._around is not None  # noqa: S101  opened before the first turn
        mailbox = Mailbox(run)
        return Execution(
            run,
            self._parts.plugins.by_type[run.job_type],
            RunContext(run, mailbox, self._around, self._parts.settings_for),
            mailbox,
            self._loop,
            claimed_at=claimed_at,
            on_end=self.slots.arrive,
            on_given_up=self._give_up,
        )

    def _give_up(self, execution: Execution, ending: Ending) -> None:
        self.slots.give_up(execution, ending)
        if not execution.holds_thread:
            # Where the loop comes to call this, the handler has cost no more than the attention of one task.
            self._loop.submit([partial(self.slots.let_go, execution)])

    # -- into the database --------------------------------------------------------------------------------------

    async def store_endings(self) -> bool:
        """Store the outcomes that wait; False where the database did not take them."""
        ended = self.slots.take_ended()
        if not ended:
            return True
        await self.reporter.settle()
        items = [
            Finish(
                execution.run.id,
                execution.run.fence,
                self._with_backoff(execution, ending),
                execution.mailbox.take(),
            )
            for execution, ending in ended
        ]
        done = []
        for (execution, ending), item, result in zip(ended, items, await self._finish(items), strict=True):
            if isinstance(result, DatabaseError):
                _log.warning("the outcome of %s waits: %s", show_id("run", execution.run.id), result)
                if item.last_report is not None:
                    execution.mailbox.put_back(item.last_report)
                continue
            if isinstance(result, JobdeckError):
                _log.error("the outcome of %s is refused: %s", show_id("run", execution.run.id), result)
            done.append((execution, ending))
        self.slots.stored(done)
        return len(done) == len(ended)

    async def _finish(self, items: list[Finish]) -> list[Ended | JobdeckError]:
        try:
            return await self._database.write_many(finish, items)
        except DatabaseError as error:
            return [error] * len(items)

    def _with_backoff(self, execution: Execution, ending: Ending) -> Ending:
        if ending.outcome not in _FAILED or ending.retry_in_us is not None:
            return ending
        wait = execution.plugin.spec.backoff.delay(execution.run.failures + 1, self._drawn)
        return replace(ending, retry_in_us=int(wait * 1_000_000))
