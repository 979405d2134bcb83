"""A client in memory, with the signatures of the real one: what the console's tests look at and act on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from jobdeck.errors import Conflict, JobdeckError, NotCancellable, NotFound
from jobdeck.model import (
    CancelEffect,
    CancelReply,
    JobType,
    LogEntry,
    Progress,
    Project,
    Run,
    RunFilter,
    RunKey,
    RunStretch,
    TeamScope,
    Worker,
)
from jobdeck.states import RETRYABLE, TERMINAL, FailureKind, Status

NOW = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)
TEAM = TeamScope(UUID(int=1), "acme")
PROJECT = Project(UUID(int=2), TEAM.team_id, "web", "Web", NOW)


def run_id(number: int) -> UUID:
    """An id that is the same in every run of the tests, and whose tail shows its number."""
    return UUID(int=(0x0199_0000_0000 + number << 80) | 0x7000_8000_0000_0000_0000 | number)


def make_run(number: int = 1, **changes: Any) -> Run:
    """Run `number`, made that many minutes after the base time minus a day; any field can be set."""
    status = Status(changes.pop("status", Status.COMPLETED))
    label = changes.pop("label", status)
    created = NOW - timedelta(days=1) + timedelta(seconds=number)
    run = Run(
        id=run_id(number),
        team_id=TEAM.team_id,
        team=TEAM.slug,
        project_id=PROJECT.id,
        project=PROJECT.slug,
        job_type="http_sync",
        name="Http sync",
        category="sync",
        status=status,
        label=str(label),
        queue="default",
        priority=5,
        progress=Progress(),
        attempt=0 if status is Status.PENDING else 1,
        max_attempts=3,
        failures=0,
        crash_count=0,
        timeout_s=0.0,
        trigger_type="immediate",
        triggered_by="manual:alice",
        created_at=created,
        due_at=created,
        started_at=None if status is Status.PENDING else created + timedelta(seconds=1),
        finished_at=created + timedelta(seconds=13) if status in TERMINAL else None,
        heartbeat_at=None,
        cancel_requested_at=None,
        cancel_requested_by=None,
        cancel_reason=None,
        failure_kind=None,
        error=None,
        worker_id=None,
        parent_run_id=None,
        notify=False,
        revision=1,
    )
    return replace(run, **changes)


def make_type(name: str = "http_sync", schema: Mapping[str, Any] | None = None, **changes: Any) -> JobType:
    """A registered job type."""
    kind = JobType(
        name,
        name.replace("_", " ").capitalize(),
        "sync",
        "project",
        schema or {},
        {},
        "jobdeck",
        "1.0",
        live_workers=1,
    )
    return replace(kind, **changes)


def make_worker(**changes: Any) -> Worker:
    """A live worker."""
    worker = Worker(
        UUID(int=9), "node1", 4711, "1.0", "idle", ("default",), ("http_sync",), 10, 0, NOW, NOW, 3
    )
    return replace(worker, **changes)


def stretch_of(
    runs: Iterable[Run],
    fits: Callable[[Run], bool] = lambda run: True,
    *,
    looks: int = 10_000,
    limit: int = 200,
    after: RunKey | None = None,
    before: RunKey | None = None,
    last: bool = False,
) -> RunStretch:
    """The answer to `page`, from all runs there are: one page looks at `looks` of them. Read as the newest was made."""
    everything, upward = sorted(runs, key=lambda run: run.key), last or before is not None
    looked_at = [
        run
        for run in (everything if upward else reversed(everything))
        if (after is None or run.key < after) and (before is None or run.key > before)
    ]
    found = [run for run in looked_at[:looks] if fits(run)][:limit]
    broken_off = len(found) < limit and len(looked_at) > looks
    return RunStretch(
        tuple(found[::-1] if upward else found),
        everything[-1].created_at if everything else NOW,
        looked_at[looks - 1].key if broken_off else None,
    )


class FakeRuns:
    """Runs in a dictionary. `broken` makes every call fail with it."""

    def __init__(self, owner: FakeClient) -> None:
        self._owner = owner
        self.by_id: dict[UUID, Run] = {}
        self.log: dict[UUID, list[LogEntry]] = {}
        self.broken: Exception | None = None
        self.refusal: JobdeckError | None = None
        self.looks = 10_000
        """Runs that one page looks at."""
        self.going_on = asyncio.Event()
        """While it is not set, pages after the first one wait."""
        self.going_on.set()
        self.triggered: list[tuple[str, Mapping[str, Any], Mapping[str, Any]]] = []
        self.cancelled: list[tuple[UUID, str | None]] = []
        self.retried: list[UUID] = []
        self.decided: list[tuple[str, UUID, str | None, str | None]] = []
        """Approvals and rejections: which, of what, why, and what was shown."""

    def put(self, *runs: Run) -> None:
        """Store runs; a known one gets a newer revision."""
        for run in runs:
            known = self.by_id.get(run.id)
            self.by_id[run.id] = replace(run, revision=known.revision + 1) if known else run
        self._owner.hint()

    def say(self, run_id: UUID, *messages: str, level: str = "info", attempt: int = 1) -> None:
        """Append to a log."""
        log = self.log.setdefault(run_id, [])
        for message in messages:
            log.append(LogEntry(len(log) + 1, NOW, level, message, attempt, {}))
        self._owner.hint()

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.broken is not None:
            raise self.broken

    @staticmethod
    def _fits(chosen: RunFilter, run: Run) -> bool:
        return (
            (not chosen.statuses or run.status in chosen.statuses or run.label in chosen.statuses)
            and chosen.job_type in (None, run.job_type)
            and chosen.queue in (None, run.queue)
            and chosen.category in (None, run.category)
            and chosen.project in (None, run.project)
            and (chosen.since is None or run.created_at >= chosen.since)
            and (chosen.until is None or run.created_at <= chosen.until)
            and (not chosen.text or chosen.text.lower() in f"{run.job_type} {run.name}".lower())
        )

    async def page(
        self,
        chosen: RunFilter,
        /,
        *,
        after: RunKey | None = None,
        before: RunKey | None = None,
        last: bool = False,
        limit: int = 200,
    ) -> RunStretch:
        await self._answer()
        if after is not None:
            await self.going_on.wait()
        return stretch_of(
            self.by_id.values(),
            lambda run: self._fits(chosen, run),
            looks=self.looks,
            limit=limit,
            after=after,
            before=before,
            last=last,
        )

    async def by_ids(self, ids: Sequence[UUID], /) -> list[Run]:
        await self._answer()
        return [self.by_id[one] for one in ids if one in self.by_id]

    async def show(self, run_id: UUID, /) -> Run:
        await self._answer()
        if run_id not in self.by_id:
            raise NotFound("no such run in this team")
        return self.by_id[run_id]

    async def logs(self, run_id: UUID, /, *, after: int = 0, limit: int = 1_000) -> list[LogEntry]:
        await self._answer()
        return [entry for entry in self.log.get(run_id, []) if entry.id > after][:limit]

    async def log_tail(self, run_id: UUID, /, limit: int = 200) -> list[LogEntry]:
        await self._answer()
        return self.log.get(run_id, [])[-limit:]

    async def cancel(self, run_id: UUID, /, *, reason: str | None = None) -> CancelReply:
        await self._answer()
        run = await self.show(run_id)
        self.cancelled.append((run_id, reason))
        if run.status in TERMINAL:
            raise NotCancellable(f"the run has ended already ({run.status})", status=run.status)
        facts: dict[str, Any] = {
            "cancel_requested_at": NOW,
            "cancel_requested_by": "alice",
            "cancel_reason": reason,
        }
        if run.status is Status.RUNNING:
            self.put(replace(run, label="cancelling", **facts))
            return CancelReply(run_id, run.status, False, CancelEffect.REQUESTED)
        self.put(replace(run, status=Status.CANCELLED, label="cancelled", finished_at=NOW, **facts))
        return CancelReply(run_id, Status.CANCELLED, True, CancelEffect.NOW)

    async def retry(self, run_id: UUID, /, *, reason: str | None = None) -> Run:
        run = await self.show(run_id)
        if run.status not in RETRYABLE:
            raise Conflict(f"only an ended run can be retried, not a {run.status} one")
        self.retried.append(run_id)
        self.put(replace(run, status=Status.PENDING, label="pending", finished_at=None, error=None))
        return self.by_id[run_id]

    async def approve(self, run_id: UUID, /, *, reason: str | None = None, seen: str | None = None) -> Run:
        run = await self.show(run_id)
        self.decided.append(("approve", run_id, reason, seen))
        self.put(replace(run, status=Status.PENDING, label="pending"))
        return self.by_id[run_id]

    async def reject(self, run_id: UUID, /, *, reason: str, seen: str | None = None) -> Run:
        run = await self.show(run_id)
        self.decided.append(("reject", run_id, reason, seen))
        said = f"rejected by alice: {reason}"
        ended = replace(run, status=Status.CANCELLED, label="cancelled", finished_at=NOW, error=said)
        self.put(replace(ended, failure_kind=FailureKind.REJECTED))
        return self.by_id[run_id]

    async def trigger(self, job_type: str, params: Mapping[str, Any] | None = None, **options: Any) -> Run:
        await self._answer()
        if self.refusal is not None:
            raise self.refusal
        self.triggered.append((job_type, params or {}, options))
        number = 5_000 + len(self.triggered)
        run = make_run(number, status="pending", job_type=job_type, params=params, created_at=NOW)
        self.put(run)
        return run

    async def counts(self) -> dict[str, int]:
        await self._answer()
        return dict(Counter(str(run.status) for run in self.by_id.values()))


class FakeWorkers:
    """The fleet."""

    def __init__(self) -> None:
        self.all = [make_worker()]

    async def list(self) -> list[Worker]:
        return self.all


class FakeTypes:
    """The job types."""

    def __init__(self) -> None:
        self.all = [make_type()]

    async def list(self) -> list[JobType]:
        return self.all


class FakeClient:
    """Everything the console needs of a client."""

    def __init__(self) -> None:
        self._hint = asyncio.Event()
        self.runs = FakeRuns(self)
        self.workers = FakeWorkers()
        self.types = FakeTypes()
        self.scope = TEAM
        self.project: Project | None = PROJECT

    def hint(self) -> None:
        """Something changed."""
        self._hint.set()

    async def changed(self, timeout: float) -> bool:
        try:
            await asyncio.wait_for(self._hint.wait(), timeout)
        except TimeoutError:
            return False
        self._hint.clear()
        return True
