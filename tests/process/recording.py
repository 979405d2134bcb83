"""A context that records what a handler does with it, and the search for the processes of a test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from jobdeck.context import CancelReason, Context, RunLog
from jobdeck.durations import parse_duration
from jobdeck.net import GuardedClient
from jobdeck.outcome import Cancelled

RUN_ID = UUID("01890000-0000-7000-8000-000000000001")
# What reliability promises after the death of a worker.
GONE_WITHIN = 5.0


class RecordingLog(RunLog):
    """Keeps (level, message, fields)."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str, dict[str, Any]]] = []
        self.counted: int | None = None
        self.arrived = asyncio.Event()

    def write(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        self.arrived.set()
        if self.counted is not None:
            self.counted += 1
            return
        self.entries.append((level, message, dict(fields)))

    @property
    def messages(self) -> list[str]:
        return [message for _, message, _ in self.entries]

    async def until(self, text: str) -> None:
        """Wait for an entry with exactly this message."""
        async with asyncio.timeout(20):
            while text not in self.messages:
                self.arrived.clear()
                await self.arrived.wait()


class RecordingContext(Context):
    """One attempt without an engine; `cancel()` asks it to stop."""

    log: RecordingLog
    token = "ack_probe"

    def __init__(self, *, resume: Any = None, settings: Mapping[str, Any] | None = None) -> None:
        self.run_id = RUN_ID
        self.team = "crew"
        self.project = "apollo"
        self.job_type = "probe"
        self.attempt = 2
        self.fence = 7
        self.log = RecordingLog()
        self.resume = resume
        self.settings = settings or {}
        self.progresses: list[dict[str, Any]] = []
        self.traced: dict[str, float] = {}
        self.checkpoints: list[Any] = []
        self.enqueued: list[tuple[str, Any, dict[str, Any]]] = []
        self.refusal: Exception | None = None
        self._stop = asyncio.Event()
        self._reason: CancelReason | None = None

    def cancel(self, reason: CancelReason = CancelReason.USER) -> None:
        self._reason = reason
        self._stop.set()

    @property
    def http(self) -> GuardedClient:
        raise NotImplementedError

    @property
    def cancelled(self) -> bool:
        return self._reason is not None

    @property
    def cancel_reason(self) -> CancelReason | None:
        return self._reason

    def raise_if_cancelled(self) -> None:
        if self.cancelled:
            raise Cancelled

    def progress(
        self,
        processed: int | None = None,
        *,
        total: int | None = None,
        failed: int | None = None,
        skipped: int | None = None,
        message: str | None = None,
    ) -> None:
        given = {
            "processed": processed,
            "total": total,
            "failed": failed,
            "skipped": skipped,
            "message": message,
        }
        self.progresses.append({name: value for name, value in given.items() if value is not None})

    def trace(self, **seconds: float) -> None:
        self.traced.update(seconds)

    async def sleep(self, seconds: float | timedelta | str) -> None:
        try:
            async with asyncio.timeout(parse_duration(seconds).total_seconds()):
                await self._stop.wait()
        except TimeoutError:
            return
        raise Cancelled

    def sleep_sync(self, seconds: float | timedelta | str) -> None:
        raise NotImplementedError

    async def checkpoint(self, state: Any) -> None:
        self._refuse()
        self.checkpoints.append(state)

    def checkpoint_sync(self, state: Any) -> None:
        raise NotImplementedError

    async def verify_lease(self) -> None:
        self._refuse()

    async def enqueue(self, job_type: str, params: Mapping[str, Any] | None = None, **options: Any) -> UUID:
        self._refuse()
        self.enqueued.append((job_type, params, options))
        return RUN_ID

    def enqueue_sync(self, job_type: str, params: Mapping[str, Any] | None = None, **options: Any) -> UUID:
        raise NotImplementedError

    def _refuse(self) -> None:
        if self.refusal is not None:
            raise self.refusal


def shims_of(worker: int) -> set[int]:
    """The shims that a process has started and that still run."""
    found = set()
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if int(parent) == worker and any(word.endswith(b"process/shim.py") for word in words):
            found.add(int(folder.name))
    return found


def marked(mark: str) -> set[int]:
    """The processes that have `mark` in their environment, zombies left out."""
    found = set()
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and mark.encode() in (folder / "environ").read_bytes():
                found.add(int(folder.name))
        except OSError:
            continue
    return found - {os.getpid()}


def running(pids: Iterable[int]) -> set[int]:
    """Those that run; a process that has ended but was not collected yet has no command line."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes():
                found.add(pid)
    return found


def await_gone(left: Callable[[], set[int]]) -> None:
    """Wait until `left()` is empty; fails where that takes too long. The end of a stranger has no event."""
    began = time.monotonic()
    while pids := left():
        assert time.monotonic() - began < GONE_WITHIN, f"still running: {pids}"
        time.sleep(0.02)


@contextmanager
def fresh_mark() -> Iterator[str]:
    """A mark of its own; at the end no process with it and no shim of this process may be left."""
    mark = f"jobdeck-test-{uuid4()}"
    yield mark
    await_gone(lambda: marked(mark) | shims_of(os.getpid()))
