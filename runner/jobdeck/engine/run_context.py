"""The `Context` of an attempt that runs inside the worker: on the handlers' loop or in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, TypeVar
from uuid import UUID

from pydantic_core import to_jsonable_python

from jobdeck import jsonio, limits
from jobdeck.context import CancelReason, Context, RunLog
from jobdeck.durations import parse_duration
from jobdeck.engine.mailbox import Mailbox
from jobdeck.engine.trace import Stopwatch
from jobdeck.net import GuardedClient
from jobdeck.outcome import Cancelled
from jobdeck.pull import new_token
from jobdeck.secret import Lookup, from_environment, masked, withheld
from jobdeck.store.claim import ClaimedRun

T = TypeVar("T")

_making = threading.Lock()


class Services(Protocol):
    """What a context asks of the worker; every call is made on the engine's loop."""

    async def save_checkpoint(self, run: ClaimedRun, state: str) -> None:
        """Raises StaleLease."""

    async def verify_lease(self, run: ClaimedRun) -> None:
        """Raises StaleLease."""

    async def enqueue_child(
        self, run: ClaimedRun, job_type: str, params: Mapping[str, Any], options: Mapping[str, Any]
    ) -> UUID:
        """Make a child run."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all attempts of a worker share."""

    engine_loop: asyncio.AbstractEventLoop
    handler_loop: asyncio.AbstractEventLoop
    services: Services
    http: GuardedClient
    secrets: Callable[[str], Lookup] = lambda _team: from_environment
    """Where the attempts of a team find secrets."""


class MailboxLog(RunLog):
    """`ctx.log`, into the mailbox."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    def write(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        self._mailbox.log(level, message, fields)


class RunContext(Context):
    """See `Context`."""

    def __init__(
        self,
        run: ClaimedRun,
        mailbox: Mailbox,
        around: Surroundings,
        settings_of: Callable[[ClaimedRun], Mapping[str, Any]],
    ) -> None:
        self.run_id = run.id
        self.team = run.team
        self.project = run.project
        self.job_type = run.job_type
        self.attempt = run.attempt
        self.fence = run.fence
        self.log = MailboxLog(mailbox)
        self.secrets = around.secrets(run.team)
        self.resume = None if run.resume is None else json.loads(run.resume)
        self._settings_of = settings_of
        self._run = run
        self._mailbox = mailbox
        self._around = around
        self._token: str | None = None
        self._reason: CancelReason | None = None
        self._stop_thread: threading.Event | None = None
        self._stop_loop: asyncio.Event | None = None
        self.stopwatch = Stopwatch()

    def prepare(self) -> None:
        """Fill in what may fail (a folder that cannot be made): inside the attempt, so that it alone fails."""
        self.settings = self._settings_of(self._run)

    @property
    def token(self) -> str:
        # Made on first use: few handlers ask. Two threads of one handler that ask at once must get the same.
        with _making:
            self._token = self._token or new_token()
        return self._token

    @property
    def http(self) -> GuardedClient:
        return self._around.http

    @property
    def cancelled(self) -> bool:
        return self._reason is not None

    @property
    def cancel_reason(self) -> CancelReason | None:
        return self._reason

    def request_stop(self, reason: CancelReason) -> None:
        """Set the flag and wake whoever sleeps; called by the engine. The first reason stays."""
        if self._reason is None:
            self._reason = reason
        if self._stop_thread is not None:
            self._stop_thread.set()
        self._around.handler_loop.call_soon_threadsafe(self._wake_sleepers)

    def _wake_sleepers(self) -> None:
        if self._stop_loop is not None:
            self._stop_loop.set()

    def raise_if_cancelled(self) -> None:
        if self._reason is not None:
            raise Cancelled(self._reason.value)

    def progress(
        self,
        processed: int | None = None,
        *,
        total: int | None = None,
        failed: int | None = None,
        skipped: int | None = None,
        message: str | None = None,
    ) -> None:
        self._mailbox.progress(
            {"processed": processed, "total": total, "failed": failed, "skipped": skipped, "message": message}
        )

    def trace(self, **seconds: float) -> None:
        self.stopwatch.add(seconds)

    async def sleep(self, seconds: float | timedelta | str) -> None:
        self.raise_if_cancelled()
        # Made here, because most handlers never sleep. Whoever stops the run wakes it on this same loop.
        self._stop_loop = self._stop_loop or asyncio.Event()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop_loop.wait(), parse_duration(seconds).total_seconds())
        self.raise_if_cancelled()

    def sleep_sync(self, seconds: float | timedelta | str) -> None:
        # Made before the flag is looked at: whoever sets the flag later finds it.
        with _making:
            stop = self._stop_thread = self._stop_thread or threading.Event()
        self.raise_if_cancelled()
        stop.wait(parse_duration(seconds).total_seconds())
        self.raise_if_cancelled()

    async def checkpoint(self, state: Any) -> None:
        text = _checkpoint_text(state)
        await self._ask(self._around.services.save_checkpoint(self._run, text))

    def checkpoint_sync(self, state: Any) -> None:
        text = _checkpoint_text(state)
        self._ask_sync(self._around.services.save_checkpoint(self._run, text))

    async def verify_lease(self) -> None:
        await self._ask(self._around.services.verify_lease(self._run))

    async def enqueue(self, job_type: str, params: Mapping[str, Any] | None = None, **options: Any) -> UUID:
        return await self._ask(self._enqueue(job_type, params, options))

    def enqueue_sync(self, job_type: str, params: Mapping[str, Any] | None = None, **options: Any) -> UUID:
        return self._ask_sync(self._enqueue(job_type, params, options))

    def _enqueue(
        self, job_type: str, params: Mapping[str, Any] | None, options: Mapping[str, Any]
    ) -> Coroutine[Any, Any, UUID]:
        # What is resolved here is not to be stored there: the child looks it up again.
        given = withheld(params or {}, what="params")
        checked = withheld(options, what="options")
        return self._around.services.enqueue_child(self._run, job_type, given, checked)

    async def _ask(self, question: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(question, self._around.engine_loop)
        return await asyncio.wrap_future(future)

    def _ask_sync(self, question: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(question, self._around.engine_loop).result()


def _checkpoint_text(state: Any) -> str:
    # Not by name: what is called `next_token` there is to be gone on from.
    plain = masked(to_jsonable_python(state), by_name=False)
    return jsonio.dumps(plain, what="checkpoint", limit=limits.CHECKPOINT_BYTES)
