"""A context that records what a handler does with it: no engine, no clock, a real HTTP client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from jobdeck import Cancelled, CancelReason, Context, GuardedClient, RunLog
from jobdeck.testing.clock import FakeClock

RUN, OTHER_RUN, THIRD_RUN, FOURTH_RUN = (UUID(f"01890000-0000-7000-8000-{n:012d}") for n in range(1, 5))


@dataclass
class RecordingLog(RunLog):
    """Keeps (level, message, fields)."""

    entries: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    def write(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        self.entries.append((level, message, dict(fields)))

    def with_message(self, message: str) -> list[dict[str, Any]]:
        """The fields of the entries with this message."""
        return [fields for _, text, fields in self.entries if text == message]


@dataclass
class RecordingContext(Context):
    """One attempt of a run. `sleep` takes `clock`'s time alone; `before_look` comes before each look for a cancel."""

    client: GuardedClient
    settings: Mapping[str, Any]
    run_id: UUID = RUN
    fence: int = 1
    clock: FakeClock = field(default_factory=FakeClock)
    before_look: Callable[[RecordingContext], None] = lambda _: None
    log: RecordingLog = field(default_factory=RecordingLog)
    progresses: list[dict[str, Any]] = field(default_factory=list)
    traced: dict[str, float] = field(default_factory=dict)
    slept: list[float] = field(default_factory=list)
    reason: CancelReason | None = None
    team = "crew"
    project = "apollo"
    job_type = "probe"
    attempt = 1
    resume = None
    token = "ack_probe"

    @property
    def http(self) -> GuardedClient:
        return self.client

    @property
    def cancelled(self) -> bool:
        self.before_look(self)
        return self.reason is not None

    @property
    def cancel_reason(self) -> CancelReason | None:
        return self.reason

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
        self.progresses.append(
            {"processed": processed, "total": total, "failed": failed, "skipped": skipped, "message": message}
        )

    def trace(self, **seconds: float) -> None:
        self.traced.update(seconds)

    async def sleep(self, seconds: float | timedelta | str) -> None:
        assert isinstance(seconds, float | int)
        self.slept.append(seconds)
        self.clock.advance(seconds)
        self.raise_if_cancelled()

    def sleep_sync(self, seconds: float | timedelta | str) -> None:
        raise NotImplementedError

    async def checkpoint(self, state: Any) -> None:
        raise NotImplementedError

    def checkpoint_sync(self, state: Any) -> None:
        raise NotImplementedError

    async def verify_lease(self) -> None:
        raise NotImplementedError

    async def enqueue(self, job_type: str, params: Mapping[str, Any] | None = None, **options: Any) -> UUID:
        raise NotImplementedError

    def enqueue_sync(self, job_type: str, params: Mapping[str, Any] | None = None, **options: Any) -> UUID:
        raise NotImplementedError
