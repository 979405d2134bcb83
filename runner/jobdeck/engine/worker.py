"""The worker: its life from registering to signing off, around a pump that moves runs and the upkeep beside it."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from enum import Enum
from typing import Any
from uuid import UUID

from jobdeck import __version__
from jobdeck.context import CancelReason
from jobdeck.engine.capture import capturing
from jobdeck.engine.courier import Courier
from jobdeck.engine.execution import Execution
from jobdeck.engine.handler_loop import HandlerLoop
from jobdeck.engine.heart import STALLED_AFTER, Heart, Vitals
from jobdeck.engine.options import EnqueueChild, SettingsFor, WorkerOptions, WorkerParts
from jobdeck.engine.pump import Pump
from jobdeck.engine.rounds import Rounds
from jobdeck.engine.run_context import Surroundings
from jobdeck.engine.services import RunServices
from jobdeck.engine.upkeep import Upkeep
from jobdeck.errors import DatabaseError
from jobdeck.ids import new_id
from jobdeck.net import GuardedClient
from jobdeck.store.fleet import Leave, Register, leave, register
from jobdeck.store.transaction import Hint

__all__ = ["EnqueueChild", "SettingsFor", "StopMode", "Worker", "WorkerEnd", "WorkerOptions", "WorkerParts"]

_log = logging.getLogger("jobdeck.engine.worker")
# How long an interrupted handler may take to let go before its run is given back without it.
_LET_GO = 2.0


class StopMode(Enum):
    """How far a stop has got."""

    NO = 0
    GRACEFUL = 1
    NOW = 2


class WorkerEnd(Enum):
    """Why `run` came back."""

    STOPPED = "stopped"
    DRAINED = "drained"
    STUCK = "stuck"
    """A handler did not let go of its thread or loop: the process should be replaced."""


class Worker:
    """One runner. `run` works until it is asked to stop, has drained, or must be replaced."""

    def __init__(self, parts: WorkerParts, options: WorkerOptions) -> None:
        self.id = new_id()
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._parts = parts
        self._options = options
        self._database = parts.database
        self._loop = HandlerLoop()
        self._engine_loop: asyncio.AbstractEventLoop | None = None
        self._pump = Pump(parts, options, self.id, self.name, self._loop)
        self.slots = self._pump.slots
        self.heart = Heart(
            parts.database, self.id, lease=options.lease, clock=parts.clock, loop=self._loop, body=self
        )
        self.rounds = Rounds(
            parts.database, parts.plan_fire, parts.clock, worker_id=self.id, lease=options.lease
        )
        self._upkeep = Upkeep(self.heart, self.rounds, self._pump.reporter, options, parts.clock)
        self._courier = Courier(parts.database, parts.senders, parts.clock)
        self._stop = StopMode.NO
        self.started = asyncio.Event()

    # -- what the heart asks ------------------------------------------------------------------------------------

    @property
    def executions(self) -> dict[tuple[UUID, int], Execution]:
        return self.slots.running

    def held_runs(self) -> tuple[UUID, ...]:
        return self.slots.held_runs()

    def vitals(self) -> Vitals:
        state = "draining" if self._stop is not StopMode.NO or self.slots.stuck else "live"
        return Vitals(state, len(self.slots.running), self.slots.finished)

    # -- control ------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop in order: claim nothing more, let running work go on for the grace. A second call: now."""
        self._stop = StopMode.GRACEFUL if self._stop is StopMode.NO else StopMode.NOW
        self._pump.stop_claiming()

    def _hear(self, hints: Hint) -> None:
        if Hint.WORK in hints:
            self._pump.look_again()
        if self._engine_loop is None:
            return
        if Hint.MAIL in hints:
            self._engine_loop.call_soon_threadsafe(self._courier.look_again)
        if Hint.CANCEL in hints:
            self._engine_loop.call_soon_threadsafe(self._upkeep.look_for_cancels)

    # -- life ---------------------------------------------------------------------------------------------------

    async def run(self) -> WorkerEnd:
        """Raises DatabaseError where the worker cannot even register."""
        self._engine_loop = asyncio.get_running_loop()
        self._loop.start()
        try:
            http = await asyncio.wrap_future(self._loop.run(_make(self._parts.http)))
            services = RunServices(
                self._database, self._pump, self._parts.clock, self._parts.enqueue_child, self.heart
            )
            around = Surroundings(self._engine_loop, self._loop.loop, services, http, self._parts.secrets)
            self._pump.open(around)
            try:
                with capturing():
                    return await self._live()
            finally:
                await self._close(http)
        finally:
            # In a thread, because what is left on the loop may still ask something of this one.
            if not await asyncio.to_thread(self._loop.stop, _LET_GO):
                _log.warning("the handlers' loop is still blocked; it ends with the process")

    async def _live(self) -> WorkerEnd:
        unlisten = self._database.signals.listen(self._hear)
        try:
            await self._register()
            self._upkeep.start()
            self._courier.start()
            self.started.set()
            end = await self._work()
            await self._wind_down()
            return end
        finally:
            await asyncio.gather(self._upkeep.stop(_LET_GO), self._courier.stop(_LET_GO))
            unlisten()
            await asyncio.gather(self._pump.close(_LET_GO), within(_LET_GO, self._leave()))

    async def _register(self) -> None:
        plugins = self._parts.plugins
        await self._database.write(
            register,
            Register(
                worker_id=self.id,
                host=socket.gethostname(),
                pid=os.getpid(),
                version=__version__,
                queues=self._options.queues,
                slots=self._options.concurrency,
                lease_us=self._options.lease_us,
                types=tuple(plugin.job_type() for plugin in plugins.installed.values()),
                takes=tuple(plugins.by_type),
                labels=self._options.labels,
            ),
        )

    async def _leave(self) -> None:
        try:
            await self._database.write(leave, Leave(self.id))
        except DatabaseError as error:
            _log.warning("could not sign off: %s", error)

    async def _close(self, http: GuardedClient) -> None:
        closing = asyncio.wrap_future(self._loop.run(_close(http)))
        with suppress(TimeoutError):
            await asyncio.wait_for(closing, _LET_GO)

    async def _work(self) -> WorkerEnd:
        self._pump.start()
        while self._stop is StopMode.NO:
            self._upkeep.check()
            self._pump.check()
            if self._must_be_replaced():
                return WorkerEnd.STUCK
            if self._options.drain and self._pump.quiet and await self._drained():
                return WorkerEnd.DRAINED
            await self._pump.attend(self._options.poll)
        return WorkerEnd.STOPPED

    async def _drained(self) -> bool:
        """Whether nothing is left; a stop does not wait for the answer."""
        looking = asyncio.ensure_future(self._nothing_left())
        while not looking.done() and self._stop is StopMode.NO:
            await asyncio.wait({looking}, timeout=self._options.poll)
        return looking.done() and looking.result()

    async def _nothing_left(self) -> bool:
        return await self._pump.nothing_left() and await self._courier.nothing_left()

    def _must_be_replaced(self) -> bool:
        """A stuck thread, or a loop that stays blocked, costs a slot for ever: the process has to go."""
        now = time.monotonic()
        return any(
            execution.holds_thread or now - (execution.given_up_at or now) > STALLED_AFTER
            for execution in self.slots.stuck.values()
        )

    # -- the end ------------------------------------------------------------------------------------------------

    async def _wind_down(self) -> None:
        """Let running work go on for the grace, then give back what is left without burning an attempt."""
        if self._stop is StopMode.NO:
            self._stop = StopMode.GRACEFUL
        self._pump.stop_claiming()
        # So that others see at once that it takes no more; that it may be late or lost holds nothing up.
        await within(_LET_GO, self.heart.beat())
        await self._pump.wait_idle(self._options.shutdown_grace, until=lambda: self._stop is StopMode.NOW)
        for execution in list(self.slots.running.values()):
            execution.stop(CancelReason.SHUTDOWN)
        await self._pump.wait_idle(_LET_GO)
        if stuck := list(self.slots.running.values()):
            for execution in stuck:
                execution.give_up()
            await self._pump.wait_idle(_LET_GO)


async def within(seconds: float, work: Coroutine[Any, Any, object]) -> None:
    """Wait for it at most so long. It goes on by itself: a write is never cancelled, and ends with the database."""
    task = asyncio.create_task(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    await asyncio.wait({task}, timeout=seconds)


async def _make(make: Callable[[], GuardedClient]) -> GuardedClient:
    return make()


async def _close(http: GuardedClient) -> None:
    await http.aclose()
