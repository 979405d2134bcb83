"""The pump moves runs: from the database into free slots, and their outcomes from the slots into the database.

Each move is one write that stores what has ended and claims for the slots that are free. It works by callbacks, not
tasks: between the end of one run and the start of the next stands little but the commit.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from jobdeck.engine.execution import Execution
from jobdeck.engine.handler_loop import HandlerLoop
from jobdeck.engine.mailbox import Mailbox
from jobdeck.engine.options import WorkerOptions, WorkerParts
from jobdeck.engine.reporter import Reporter
from jobdeck.engine.run_context import RunContext, Surroundings
from jobdeck.engine.slots import Ended, Slots
from jobdeck.engine.spoilt import SpoiltRows
from jobdeck.errors import DatabaseError, JobdeckError
from jobdeck.ids import show_id
from jobdeck.states import AttemptOutcome
from jobdeck.store.batch import Part, Results
from jobdeck.store.claim import FIRST_TEAM, Claim, ClaimedRun, claim
from jobdeck.store.drain import nothing_left
from jobdeck.store.finish import Finish, finish
from jobdeck.verdict import Ending

_log = logging.getLogger("jobdeck.engine.pump")
_POLL_MIN = 0.02
# Between two tries to store outcomes that the database did not take.
_STORE_AGAIN = 0.2
# Between two words about that.
_SAY_AGAIN = 5.0
# Moves under way at the same time: while one waits for its commit, handlers run and the next one fills.
_OVERLAP = 2
# From so many slots on, a move takes its share of them only. Handlers that end together would else all wait for one
# commit, and the database for all of them.
_SHARED_FROM = 16
# After these a run may have to wait for its next attempt; after `parked`, where nobody ends it well.
_MAY_WAIT = (AttemptOutcome.ERROR, AttemptOutcome.TIMED_OUT, AttemptOutcome.PARKED)


@dataclass(slots=True)
class _Move:
    """One write on its way."""

    ended: list[Ended]
    items: list[Finish]
    request: Claim | None
    news: int
    """How many reasons to look had come up when it was sent."""
    spoilt: int
    """How often spoilt rows had been ended by then."""
    sent_at: float


class Pump:
    """Everything but `wake`, `look_again` and `alert` is called on the engine's loop."""

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
        self._drawn = random.Random()
        self._scheduled = False
        self._accepting = False
        self._closed = False
        self._moving = 0
        self._asked = 0
        self._news = 0
        self._looked = -1
        self._store_pauses = False
        self._say_after = 0.0
        self._failure: Exception | None = None
        self._last_team = FIRST_TEAM
        self._poll = options.poll
        self._look_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._attention = asyncio.Event()
        size = options.concurrency
        self._most = -(-size // _OVERLAP) if size >= _SHARED_FROM else size
        self.slots = Slots(size, self.wake)
        self._spoilt = SpoiltRows(parts.database, name, on_ended=self.look_again, on_helpless=self._fail)
        self.reporter = Reporter(parts.database, lambda: list(self.slots.running.values()), on_idle=self.wake)

    def open(self, around: Surroundings) -> None:
        """Name what the attempts will share."""
        self._around = around

    def start(self) -> None:
        """Begin to claim."""
        self._accepting = True
        self._plan_look(self._options.poll)
        self.wake()

    def stop_claiming(self) -> None:
        """Take no more runs; outcomes go on being stored."""
        self._accepting = False
        self.alert()

    async def close(self, seconds: float) -> None:
        """Begin no more moves; wait for those under way, at most so long.

        What ends from now on is not stored: whoever closes without `wait_idle` leaves its runs to others.
        """
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._moving:
                    await self._attention.wait()
                    self._attention.clear()

    def wake(self) -> None:
        """Something has ended or may be claimed; from any thread. Many calls before the next move are one."""
        if not self._scheduled and (loop := self._open_loop()) is not None:
            self._scheduled = True
            loop.call_soon_threadsafe(self._move)

    def look_again(self) -> None:
        """Something may be claimable; from any thread."""
        self._news += 1
        self.wake()

    def join_write(self) -> None:
        """Claim along with what the caller writes next, without a pause in between: a new run, say.

        So one commit usually stores a run and takes it. On the engine's loop.
        """
        if self._accepting and self.slots.free > self._asked:
            self._news += 1
            self._move()

    def alert(self) -> None:
        """Have whoever waits in `attend` look at the state of things; from any thread."""
        if (loop := self._open_loop()) is not None:
            loop.call_soon_threadsafe(self._attention.set)

    def _open_loop(self) -> asyncio.AbstractEventLoop | None:
        loop = self._around.engine_loop if self._around else None
        return None if loop is None or loop.is_closed() else loop

    # -- the state of things ------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether nothing runs, nothing waits to be stored and nothing is on its way."""
        return self._moving == 0 and self.slots.idle

    @property
    def quiet(self) -> bool:
        """Whether it is idle and the last look found nothing."""
        return self.idle and self._looked >= self._news

    def check(self) -> None:
        """Raise what a claim has failed with, where it was not for want of the database."""
        if self._failure is not None:
            raise self._failure

    async def attend(self, seconds: float) -> None:
        """Wait until the state has changed in a way that a worker cares for, at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._attention.wait()
        self._attention.clear()

    async def wait_idle(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Store outcomes as they come, until nothing is left, `seconds` have passed or `until()` holds."""
        over = asyncio.ensure_future(self._parts.clock.sleep(seconds))
        over.add_done_callback(lambda _: self._attention.set())
        self.wake()
        try:
            while not (self.idle or over.done() or until()):
                await self._attention.wait()
                self._attention.clear()
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

    # -- moves --------------------------------------------------------------------------------------------------

    def _move(self) -> None:
        try:
            self._make_moves()
        except Exception as error:
            # What it has taken out of the slots would be held for ever, and never stored.
            _log.exception("what has ended cannot be put into a write")
            self._fail(error)

    def _make_moves(self) -> None:
        self._scheduled = False
        self.slots.free_ended()
        while not self._closed and self._moving < _OVERLAP and (move := self._next_move()) is not None:
            self._send(move)
        if self.idle or self.slots.stuck:
            self._attention.set()

    def _next_move(self) -> _Move | None:
        may_store = not self.reporter.busy and not self._store_pauses
        ended = self.slots.take_unstored(self._most) if may_store else []
        request = self._request()
        if not ended and request is None:
            return None
        items = [
            Finish(
                execution.run.id,
                execution.run.fence,
                self._with_backoff(execution, ending)._replace(trace=self._trace(execution)),
                execution.mailbox.take(),
            )
            for execution, ending in ended
        ]
        return _Move(ended, items, request, self._news, self._spoilt.times, self._parts.clock.monotonic())

    def _request(self) -> Claim | None:
        free = self.slots.free - self._asked
        if free < 1 or not self._accepting or self._looked >= self._news or self.slots.stuck:
            return None
        return Claim(
            worker_id=self._worker_id,
            worker=self._name,
            limit=min(free, self._most),
            lease_us=self._options.lease_us,
            job_types=tuple(self._parts.plugins.by_type),
            queues=self._options.queues,
            last_team=self._last_team,
        )

    def _send(self, move: _Move) -> None:
        parts: list[Part] = [(finish, move.items)] if move.items else []
        if move.request is not None:
            parts.append((claim, [move.request]))
            self._asked += move.request.limit
        self._moving += 1
        try:
            self._database.submit(parts, partial(self._moved, move))
        except DatabaseError as error:
            self._moved(move, [[error] * len(items) for _, items in parts])

    def _moved(self, move: _Move, results: Results) -> None:
        try:
            self._take_moved(move, results)
        except Exception as error:
            # Whoever delivers must not fail for it, and a worker that does not know what it holds must end.
            _log.exception("what a write has brought cannot be taken in")
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._failure = self._failure or error
        self._attention.set()

    def _take_moved(self, move: _Move, results: Results) -> None:
        self._moving -= 1
        if move.request is not None:
            self._asked -= move.request.limit
            self._take_claimed(move, move.request, results[-1][0])
        if move.items:
            self._take_stored(move, results[0])
        self._move()

    def _plan_look(self, poll: float) -> None:
        """Look again after this pause, whatever may wake the pump before; the next pauses grow to the poll interval."""
        loop = asyncio.get_running_loop()
        self._poll = min(poll, self._options.poll)
        pause = min(self._poll * self._drawn.uniform(0.8, 1.2), self._options.poll)
        self._look_at = loop.time() + pause
        if self._timer is None or self._timer_at > self._look_at:
            if self._timer is not None:
                self._timer.cancel()
            self._set_timer(loop)

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer_at = self._look_at
        self._timer = loop.call_at(self._look_at, self._look_is_due)

    def _look_is_due(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        if loop.time() < self._look_at:
            self._set_timer(loop)
            return
        self._plan_look(self._poll * 2)
        self.look_again()

    # -- into the slots -----------------------------------------------------------------------------------------

    def _take_claimed(self, move: _Move, request: Claim, result: list[ClaimedRun] | Exception) -> None:
        if isinstance(result, Exception):
            self._looked = self._news
            if isinstance(result, DatabaseError):
                self._warn("cannot claim: %s", result)
            else:
                self._spoilt.end_waiting(result, move.spoilt)
            return
        if result and self._parts.clock.monotonic() - move.sent_at > request.lease_us / 1_000_000:
            _log.warning(
                "an answer came after %d leases had ended; their runs are left to others", len(result)
            )
            result = []
        if len(result) < request.limit:
            self._looked = max(self._looked, move.news)
        if result:
            self._last_team = result[-1].team_id
            self._plan_look(_POLL_MIN)
            self._start(result, move.sent_at)

    def _start(self, runs: list[ClaimedRun], claimed_at: float) -> None:
        starters = []
        claim_us = int((self._parts.clock.monotonic() - claimed_at) * 1_000_000)
        for run in runs:
            try:
                execution = self._execution(run, claimed_at)
                execution.claim_us = claim_us
                starters.append(execution.starter())
            except Exception as error:
                # Rows are hostile: a number that is a text, a saved state that is no JSON.
                self._spoilt.end_run(run.id, "its row cannot be read", error)
                continue
            self.slots.running[execution.key] = execution
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
        self._attention.set()
        if not execution.holds_thread:
            # Where the loop comes to call this, the handler has cost no more than the attention of one task.
            self._loop.submit([partial(self.slots.let_go, execution)])

    # -- into the database --------------------------------------------------------------------------------------

    def _take_stored(self, move: _Move, results: list[Any]) -> None:
        done, again = [], []
        failure: DatabaseError | None = None
        for ended, item, result in zip(move.ended, move.items, results, strict=True):
            shown = show_id("run", item.run_id) if isinstance(result, Exception) else ""
            if isinstance(result, DatabaseError):
                failure = result
                if item.last_report is not None:
                    ended[0].mailbox.put_back(item.last_report)
                again.append(ended)
                continue
            if isinstance(result, JobdeckError):
                _log.error("the outcome of %s is refused: %s", shown, result)
            elif isinstance(result, Exception):
                _log.error("the outcome of %s cannot be stored", shown, exc_info=result)
                self._spoilt.end_run(item.run_id, "its outcome cannot be stored", result)
            done.append(ended)
        self.slots.stored(done)
        if again:
            self.slots.not_stored(again)
            self._warn("%d outcomes wait to be stored: %s", len(again), failure)
            self._store_pauses = True
            asyncio.get_running_loop().call_later(_STORE_AGAIN, self._store_again)

    def _store_again(self) -> None:
        self._store_pauses = False
        self._move()

    def _warn(self, words: str, *about: object) -> None:
        """Say that the database fails; once in a while, not at every try."""
        now = time.monotonic()
        if now >= self._say_after:
            self._say_after = now + _SAY_AGAIN
            _log.warning(words, *about)

    def _trace(self, execution: Execution) -> str:
        run = execution.run
        queue_wait = max(run.lease_until - self._options.lease_us - run.due_at, 0)
        return execution.ctx.stopwatch.text(queue_wait, execution.claim_us)

    def _with_backoff(self, execution: Execution, ending: Ending) -> Ending:
        if ending.outcome not in _MAY_WAIT or ending.retry_in_us is not None:
            return ending
        failures = execution.run.failures if isinstance(execution.run.failures, int) else 0
        wait = execution.backoff.delay(max(failures, 0) + 1, self._drawn)
        return ending._replace(retry_in_us=int(wait * 1_000_000))
