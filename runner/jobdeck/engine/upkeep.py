"""What a worker does at intervals beside its runs: beats, recovery, reports, the look-out for cancels and stalls."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from jobdeck.clock import Clock
from jobdeck.engine.heart import Heart
from jobdeck.engine.options import WorkerOptions
from jobdeck.engine.reporter import Reporter
from jobdeck.engine.rounds import Rounds

# After something that the database did not take: soon enough to save leases that are about to run out.
_TRY_AGAIN = 0.5
# Seconds. No run begins after its time to live, whenever somebody looks; this is how soon that is told.
_EXPIRE_EVERY = 5.0
_FIRE_EVERY = 1.0
# What ends calls the next one at once; this is for whatever else frees a place.
_CALL_EVERY = 2.0
_BULK_EVERY = 1.0
# What has been done is in the audit at once; this is how long somebody could still change it unseen.
_SEAL_EVERY = 5.0


class Upkeep:
    """The services of a worker, each a task of its own."""

    def __init__(
        self, heart: Heart, rounds: Rounds, reporter: Reporter, options: WorkerOptions, clock: Clock
    ) -> None:
        self._heart = heart
        self._rounds = rounds
        self._reporter = reporter
        self._options = options
        self._clock = clock
        self._drawn = random.Random()
        self._cancel_hint = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start all services; each acts at once."""
        self._tasks = [asyncio.create_task(service) for service in self._services()]
        for task in self._tasks:
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def stop(self, seconds: float) -> None:
        """End all services; one that waits for the database for longer than `seconds` ends with that."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    def check(self) -> None:
        """Raise RuntimeError where a service has failed: without its heart a worker would lose its runs."""
        for task in self._tasks:
            if task.done() and not task.cancelled():
                raise RuntimeError("a service of the worker has failed") from task.exception()

    def look_for_cancels(self) -> None:
        """Somebody may have asked a run to stop; on the engine's loop."""
        self._cancel_hint.set()

    def _services(self) -> list[Coroutine[Any, Any, None]]:
        lease = self._options.lease
        return [
            self._every(self._heart.interval, self._heart.beat),
            self._every(max(lease / 3, 0.5), self._rounds.recover),
            self._every(_EXPIRE_EVERY, self._rounds.expire),
            self._every(_FIRE_EVERY, self._rounds.fire),
            self._every(_CALL_EVERY, self._rounds.call_waiting),
            self._every(_BULK_EVERY, self._rounds.bulk),
            self._every(_SEAL_EVERY, self._rounds.seal),
            self._every(self._options.report_every, self._reporter.flush),
            self._every(min(lease / 6, 0.5), self._watch),
            self._watch_cancels(),
        ]

    async def _every(self, seconds: float, act: Callable[[], Awaitable[Any]]) -> None:
        while True:
            done = await act()
            pause = min(seconds, _TRY_AGAIN) if done is False else seconds
            await self._clock.sleep(pause * self._drawn.uniform(0.9, 1.0))

    async def _watch(self) -> None:
        self._heart.watch_silence()
        if self._heart.watch_loop():
            await self._heart.beat()

    async def _watch_cancels(self) -> None:
        while True:
            await self._heart.look_for_cancels()
            # Not `wait_for`, which before Python 3.12 forgets a cancel that comes along with what it waits for.
            try:
                async with asyncio.timeout(self._options.cancel_notice):
                    await self._cancel_hint.wait()
            except TimeoutError:
                continue
            self._cancel_hint.clear()
