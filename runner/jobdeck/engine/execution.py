"""One attempt while it runs: its task on the handlers' loop, and the ladder by which it is stopped.

The ladder: a flag the handler can see (and `ctx.sleep` wakes); after the grace its task is cancelled; after a second
grace it is given up, its outcome written without it. A timeout and a lost lease cancel the task at once.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from uuid import UUID

from jobdeck import limits
from jobdeck.context import CancelReason
from jobdeck.engine.handler_loop import HandlerLoop
from jobdeck.engine.mailbox import Mailbox
from jobdeck.engine.perform import perform
from jobdeck.engine.run_context import RunContext
from jobdeck.engine.safe_text import safe_text
from jobdeck.errors import ValidationError
from jobdeck.plugins import Plugin
from jobdeck.retry import Backoff, from_facts
from jobdeck.states import AttemptOutcome
from jobdeck.store.claim import ClaimedRun
from jobdeck.verdict import Ending

EndedListener = Callable[["Execution", Ending], None]
GivenUpListener = Callable[["Execution", Ending], None]


class Execution:
    """Methods are called on the engine's loop; `_begin` and `_ended` run on the handlers' loop."""

    def __init__(
        self,
        run: ClaimedRun,
        plugin: Plugin,
        ctx: RunContext,
        mailbox: Mailbox,
        loop: HandlerLoop,
        *,
        claimed_at: float,
        on_end: EndedListener,
        on_given_up: GivenUpListener,
    ) -> None:
        self.run = run
        self.plugin = plugin
        self.ctx = ctx
        self.mailbox = mailbox
        self.claimed_at = claimed_at
        """When the claim was sent, by the worker's clock: the lease is not older than that."""
        self.claim_us = 0
        """From then until its run was here, microseconds."""
        self.ended = False
        """Its outcome is there, even if nobody has taken it yet: too late to stop it or to give it up."""
        self.given_up_at: float | None = None
        """By the machine's monotonic clock."""
        self.lost = False
        self._loop = loop
        self._on_end = on_end
        self._on_given_up = on_given_up
        self._task: asyncio.Task[Ending] | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._stopping: CancelReason | None = None

    @property
    def key(self) -> tuple[UUID, int]:
        """Run and fence: what tells this attempt from every other one."""
        return (self.run.id, self.run.fence)

    @property
    def blocks_loop(self) -> bool:
        """Whether the handler runs on the shared loop, where it can block its neighbours."""
        return self.plugin.spec.is_async and self.plugin.spec.isolation == "loop"

    @property
    def holds_thread(self) -> bool:
        """Whether the handler has a thread of this process, which nothing can end from outside."""
        return not self.plugin.spec.is_async and self.plugin.spec.isolation == "loop"

    @property
    def backoff(self) -> Backoff:
        """That of the run where it has one, else that of its job type."""
        stated = self.run.rare.backoff
        if stated is not None:
            # A row that has been tampered with must not keep an outcome from being stored.
            with suppress(ValueError, RecursionError, ValidationError):
                return from_facts(json.loads(stated))
        return self.plugin.spec.backoff

    @property
    def given_up(self) -> bool:
        """Whether the outcome has been written without the handler."""
        return self.given_up_at is not None

    def starter(self) -> Callable[[], None]:
        """What begins the attempt when called on the handlers' loop; the timeout counts from here."""
        if self.run.timeout_s > 0:
            self._after(self.run.timeout_s, lambda: self.stop(CancelReason.TIMEOUT))
        return self._begin

    def _begin(self) -> None:
        self._task = self._loop.loop.create_task(perform(self.plugin, self.ctx, self.run))
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Ending]) -> None:
        if task.cancelled():
            # The cancel came before the first step of the task.
            ending = Ending(AttemptOutcome.INTERRUPTED, error="stopped before it began")
            if self.ctx.cancel_reason is CancelReason.USER:
                ending = Ending(AttemptOutcome.CANCELLED)
            elif self.ctx.cancel_reason is CancelReason.TIMEOUT:
                ending = Ending(AttemptOutcome.TIMED_OUT, error="the attempt ran past its timeout")
        elif (error := task.exception()) is not None:
            # Whatever a handler's exception does to whoever looks at it, the attempt has to end.
            words = f"the attempt broke off: {type(error).__name__}"
            ending = Ending(AttemptOutcome.ERROR, error=safe_text(words, limits.ERROR_BYTES))
        else:
            ending = task.result()
        self.ended = True
        self._on_end(self, ending)

    def stop(self, reason: CancelReason) -> None:
        """Ask the handler to stop. A second reason only counts where it is more urgent than the first."""
        if self.ended or self.given_up or (self._stopping is not None and reason is CancelReason.USER):
            return
        first = self._stopping is None
        self._stopping = reason
        if reason is CancelReason.LEASE_LOST:
            self.lost = True
        self.ctx.request_stop(reason)
        grace = self.plugin.spec.cancel_grace.total_seconds()
        if reason is CancelReason.USER:
            self._after(grace, self._cancel_task)
            self._after(2 * grace, self.give_up)
            return
        self._cancel_task()
        if first:
            self._after(grace, self.give_up)

    def _cancel_task(self) -> None:
        self._loop.submit([self._cancel_on_loop])

    def _cancel_on_loop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def give_up(self) -> None:
        """Write the outcome without waiting for the handler any longer."""
        if self.ended or self.given_up:
            return
        self.given_up_at = time.monotonic()
        reason = self.ctx.cancel_reason
        if reason is CancelReason.TIMEOUT:
            ending = Ending(
                AttemptOutcome.TIMED_OUT, error="the handler ran past its timeout and did not stop"
            )
        elif reason is CancelReason.SHUTDOWN:
            ending = Ending(
                AttemptOutcome.INTERRUPTED, error="the worker was stopped; the handler did not let go"
            )
        else:
            ending = Ending(AttemptOutcome.ABANDONED, error="the handler ignored the cancel and was given up")
        self._on_given_up(self, ending)

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(seconds, call))

    def close(self) -> None:
        """Stop the timers: the attempt has ended or has been given up."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
