"""The only module that asks the client anything. Answers become messages; an error never reaches the screen as a crash.

It looks again every `poll` seconds and at every hint that something changed, at most every `gap` seconds. A look
that takes long makes the next one wait ten times as long, so that a console never burdens the database.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

from textual.message import Message

from jobdeck.errors import JobdeckError, NotFound
from jobdeck.model import Run, RunStretch
from jobdeck.text import clean
from jobdeck_tui import messages
from jobdeck_tui.ports import ClientPort
from jobdeck_tui.render.confirm import Question
from jobdeck_tui.render.header import Fleet
from jobdeck_tui.window import Look, PageWanted, Place, RunWindow, Seen

_log = logging.getLogger(__name__)
_NEWER_MAX = 100
_SURVEY_EVERY = 5.0
_BLUR_FACTOR = 4
_BACKOFF_MAX = 30.0
_RETRY_MAX = 5.0
_TAIL = 200
_LOG_PAGE = 500
_GONE_STATES = ("stopped", "lost")
_LEAST = 0.001
"""Shortest wait for a hint: one that came while looking is taken up even where a poll is over already."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds: between two looks without a hint, and at least between two looks."""

    poll: float = 1.0
    gap: float = 0.25


class LogCursor(Protocol):
    """How far the open log has been read."""

    @property
    def last_id(self) -> int: ...

    @property
    def wants_new(self) -> bool: ...


class Feed:
    """Reads for what is on the screen and carries out what the operator decides."""

    def __init__(
        self,
        client: ClientPort,
        post: Callable[[Message], object],
        *,
        pace: Pace | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = client
        self._post = post
        self._pace = pace or Pace()
        self._now = now
        self._blurred = False
        self._wake = asyncio.Event()
        self._soon = asyncio.Event()
        self._hinted = False
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._list: RunWindow | None = None
        self._run: UUID | None = None
        self._log: LogCursor | None = None
        self._good_at = time.monotonic()
        self._failures = 0
        self._surveyed_at: float | None = None

    # What is on the screen

    def watch_list(self, window: RunWindow) -> None:
        """The list is on the screen."""
        self._list, self._run, self._log = window, None, None
        self.look_now()

    def watch_run(self, run_id: UUID, log: LogCursor) -> None:
        """One run is on the screen."""
        self._list, self._run, self._log = None, run_id, log
        self.look_now()

    def watch_nothing(self) -> None:
        """Nothing on the screen changes by itself."""
        self._list, self._run, self._log = None, None, None

    def blurred(self, away: bool) -> None:
        """The terminal lost or got the focus: look less often while nobody is looking."""
        self._blurred = away
        self.look_now()

    def look_now(self) -> None:
        """Do not wait for the next look."""
        self._wake.set()

    def look_soon(self) -> None:
        """Other rows came into view: look again, but no more often than for hints."""
        self._soon.set()

    # The loop

    async def run(self) -> None:
        """Look, wait, look again, until cancelled."""
        while True:
            began = time.monotonic()
            await self.look()
            took = time.monotonic() - began
            await self._wait(took)

    async def look(self) -> None:
        """Read once what is on the screen; tell how it went."""
        self._wake.clear()
        self._soon.clear()
        try:
            await self._read()
        except Exception as error:
            self._report_stale(error)
        else:
            self._good_at = time.monotonic()
            self._failures = 0
            self._post(messages.FeedAlive())

    async def _read(self) -> None:
        if self._list is not None and self._list.loaded:
            await self._read_list(self._list)
        elif self._run is not None:
            await self._read_run(self._run)
        now = time.monotonic()
        if self._surveyed_at is None or now - self._surveyed_at >= _SURVEY_EVERY * self.slowness:
            await self._survey()
            self._surveyed_at = now

    def _report_stale(self, error: Exception) -> None:
        self._failures += 1
        if isinstance(error, JobdeckError):
            reason = clean(error.message, 200)
        else:
            # What a driver says may hold the address and the password of the database.
            reason = type(error).__name__
            _log.warning("a look at the database failed", exc_info=error)
        self._post(messages.FeedStale(int(time.monotonic() - self._good_at), reason))

    @property
    def slowness(self) -> int:
        """How many times longer than usual it waits."""
        return _BLUR_FACTOR if self._blurred else 1

    async def _wait(self, took: float) -> None:
        """Until the next look is due: the poll, or a hint, or a wake-up by the operator, who waits for nothing."""
        if self._failures:
            await self._sleep(min(self._pace.poll * 2 ** (self._failures - 1), _RETRY_MAX))
            return
        pause = min(max(self._pace.poll * self.slowness, took * 10), _BACKOFF_MAX)
        # The first hint is acted on at once; of a stream of them a list takes one in every poll, a log more.
        gap = self._pace.poll if self._hinted and self._list is not None else self._pace.gap
        gap = min(max(gap * self.slowness, took), pause)
        await self._sleep(gap)
        self._hinted = False
        if not self._wake.is_set():
            self._hinted = await self._wait_for_hint(max(pause - gap, _LEAST))

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except TimeoutError:
            return

    async def _wait_for_hint(self, seconds: float) -> bool:
        """Until the client says that something changed (True), the operator moved, or the time is over."""
        hint = asyncio.ensure_future(self._client.changed(seconds))
        others = [asyncio.ensure_future(event.wait()) for event in (self._wake, self._soon)]
        try:
            await asyncio.wait((hint, *others), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in (hint, *others):
                waiting.cancel()
            results = await asyncio.gather(hint, *others, return_exceptions=True)
        if isinstance(results[0], Exception):
            # Hints are a convenience: without them the poll goes on.
            _log.debug("no hints", exc_info=results[0])
            await self._sleep(seconds)
        return results[0] is True

    # Reading

    async def _read_list(self, window: RunWindow) -> None:
        look = window.look()
        chosen = window.chosen.to_run_filter(self._now())
        stretch = RunStretch((), self._now())
        if look.limit:
            stretch = await self._client.runs.page(chosen, after=look.after, limit=look.limit)
        missing = window.missing(look, stretch)
        others = await self._client.runs.by_ids(missing) if missing else []
        newer, more = await self._newer(window, look)
        self._post(messages.ListSeen(Seen(look, stretch, others, newer, more)))

    async def _newer(self, window: RunWindow, look: Look) -> tuple[int, bool]:
        """How many runs are newer, and whether there may be more than that."""
        if look.newest is None:
            return 0, False
        chosen = window.chosen.to_run_filter(self._now())
        found = await self._client.runs.page(chosen, before=look.newest, limit=_NEWER_MAX + 1)
        return min(len(found.runs), _NEWER_MAX), len(found.runs) > _NEWER_MAX or found.stopped is not None

    async def _read_run(self, run_id: UUID) -> None:
        try:
            run = await self._client.runs.show(run_id)
        except NotFound:
            self._post(messages.RunSeen(run_id, None))
            return
        self._post(messages.RunSeen(run_id, run))
        log = self._log
        if log is None or not log.wants_new:
            return
        after = log.last_id
        entries = await self._client.runs.logs(run_id, after=after, limit=_LOG_PAGE)
        if len(entries) == _LOG_PAGE:
            # Further behind than a page: the tail is what a follower wants to see.
            await self._read_tail(run_id)
        elif entries:
            self._post(messages.LogRead(run_id, entries, after=after, from_start=False, complete=True))

    async def _read_tail(self, run_id: UUID) -> None:
        entries = await self._client.runs.log_tail(run_id, limit=_TAIL)
        whole = len(entries) < _TAIL
        self._post(messages.LogRead(run_id, entries, after=None, from_start=whole, complete=True))

    async def _read_log_page(self, run_id: UUID, after: int) -> None:
        entries = await self._client.runs.logs(run_id, after=after, limit=_LOG_PAGE)
        complete = len(entries) < _LOG_PAGE
        begins = after == 0
        self._post(
            messages.LogRead(
                run_id, entries, after=None if begins else after, from_start=begins, complete=complete
            )
        )

    async def _survey(self) -> None:
        counts = await self._client.runs.counts()
        workers = [worker for worker in await self._client.workers.list() if worker.state not in _GONE_STATES]
        self._post(
            messages.SurveyRead(counts, Fleet(len(workers), sum(worker.running for worker in workers)))
        )

    # Asked for by a view

    def load_page(self, window: RunWindow, wanted: PageWanted) -> None:
        """Load a page of the list; tried until it is there or another page is asked for instead."""

        async def load() -> None:
            chosen = window.chosen.to_run_filter(self._now())
            after = wanted.anchor if wanted.place is Place.OLDER else None
            before = wanted.anchor if wanted.place is Place.NEWER else None
            last = wanted.place is Place.TAIL
            stretch = await self._client.runs.page(
                chosen, after=after, before=before, last=last, limit=wanted.limit
            )
            self._post(messages.PageRead(wanted, stretch))

        name = wanted.place if wanted.place in (Place.OLDER, Place.NEWER) else "page"
        self._start(name, self._until_done(load))

    def load_log_tail(self, run_id: UUID) -> None:
        """Load the end of the log."""
        self._start("log", self._until_done(lambda: self._read_tail(run_id)))

    def load_log_page(self, run_id: UUID, after: int) -> None:
        """Load a page of the log after the entry `after`; 0 begins at its first."""
        self._start("log", self._until_done(lambda: self._read_log_page(run_id, after)))

    def load_types(self) -> None:
        """Load the job types."""

        async def load() -> None:
            self._post(messages.TypesRead(await self._client.types.list()))

        self._start("types", self._until_done(load))

    async def _until_done(self, load: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await load()
            except Exception as error:
                self._report_stale(error)
                await asyncio.sleep(min(self._pace.poll * self._failures, _RETRY_MAX))
            else:
                return

    # Decided by the operator

    def carry_out(self, question: Question, command: str) -> None:
        """Do what the operator said yes to. The answer says what is true, never more."""
        run_id, reason = question.run_id, question.reason or None

        async def cancel() -> str:
            reply = await self._client.runs.cancel(run_id, reason=reason)
            return "cancelled" if reply.cancelled else f"stop asked, still {reply.status}"

        async def retry() -> str:
            run = await self._client.runs.retry(run_id, reason=reason)
            return f"now {run.label}"

        async def approve() -> str:
            run = await self._client.runs.approve(run_id, reason=reason, seen=question.seen)
            return f"approved, now {run.label}"

        async def reject() -> str:
            run = await self._client.runs.reject(run_id, reason=question.reason, seen=question.seen)
            return f"rejected, now {run.label}"

        act = {"cancel": cancel, "retry": retry, "approve": approve, "reject": reject}[question.verb]
        self._start(f"write {run_id}", self._write(f"{question.verb} {question.short_id}", command, act))

    async def _write(self, what: str, command: str, act: Callable[[], Coroutine[Any, Any, str]]) -> None:
        try:
            outcome = await act()
        except Exception as error:
            self._post(messages.Told(f"{what}: {_said(error)}", bad=True))
        else:
            self._post(messages.Told(outcome, command=command))
        self.look_now()

    def trigger(
        self, job_type: str, params: Mapping[str, Any], options: Mapping[str, Any], command: str
    ) -> None:
        """Make a run."""

        async def act() -> None:
            try:
                run: Run = await self._client.runs.trigger(job_type, params, **options)
            except JobdeckError as error:
                self._post(messages.TriggerRefused(error))
            except Exception as error:
                self._post(messages.TriggerRefused(JobdeckError(_said(error))))
            else:
                self._post(messages.Triggered(run, command))
            self.look_now()

        # One at a time: a key that repeats itself must not make two runs.
        if not self.busy("trigger"):
            self._start("trigger", act())

    # Tasks

    def busy(self, name: str) -> bool:
        """Whether a task of this name is still at work."""
        task = self._tasks.get(name)
        return task is not None and not task.done()

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        before = self._tasks.get(name)
        # A write is never taken back half-way; a read gives way to the newer one.
        if before is not None and not name.startswith("write"):
            before.cancel()
        task = asyncio.get_running_loop().create_task(work, name=f"console {name}")
        self._tasks[name] = task
        task.add_done_callback(
            lambda done: self._tasks.pop(name, None) if self._tasks.get(name) is done else None
        )

    async def settled(self) -> None:
        """Until nothing asked for is outstanding."""
        while self._tasks:
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def close(self) -> None:
        """Stop reading, and let writes that are under way finish."""
        for name, task in list(self._tasks.items()):
            if not name.startswith("write") and name != "trigger":
                task.cancel()
        await self.settled()


def _said(error: Exception) -> str:
    if isinstance(error, JobdeckError):
        return clean(error.message, 400)
    _log.error("an action failed unexpectedly", exc_info=error)
    return f"failed unexpectedly ({type(error).__name__}); see the console's log file"
