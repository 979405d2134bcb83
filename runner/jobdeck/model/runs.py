"""Runs as they are, and what is told of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from jobdeck.ids import show_id
from jobdeck.states import FailureKind, Status


@dataclass(frozen=True, slots=True)
class Progress:
    """Counts of records. `processed` includes `failed` and `skipped`; `total` is None while unknown."""

    processed: int = 0
    total: int | None = None
    failed: int = 0
    skipped: int = 0
    message: str = ""

    @property
    def fraction(self) -> float | None:
        """Between 0 and 1, or None where the total is unknown."""
        return min(self.processed / self.total, 1.0) if self.total else None


@dataclass(frozen=True, slots=True)
class Wait:
    """What a run waits or has waited for."""

    run_id: UUID
    condition: str
    """completed, failed, finished; or `turn`: next under a key that the other one holds."""
    open: bool


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a run by one worker. `outcome` is None while it runs."""

    attempt: int
    fence: int
    worker_id: UUID | None
    worker: str
    """What people call the worker: host and process id."""
    started_at: datetime
    finished_at: datetime | None
    outcome: str | None
    error: str | None
    traceback: str | None
    trace: Mapping[str, timedelta] = field(default_factory=dict)
    """What it spent its time on, by name: see docs/reference.md. Empty while it runs, and of one that crashed."""

    @property
    def duration(self) -> timedelta | None:
        return self.finished_at - self.started_at if self.finished_at else None


class Kin(NamedTuple):
    """A run that started another one by a dependency between their jobs, or was started so."""

    run_id: UUID
    job_id: UUID
    job: str
    """Slug of its job."""


class RunKey(NamedTuple):
    """The place of a run in lists, which go from the newest key down."""

    created_at: datetime
    id: UUID


@dataclass(frozen=True, slots=True)
class Run:
    """A run as everybody reads it."""

    id: UUID
    team_id: UUID
    team: str
    project_id: UUID | None
    project: str | None
    job_type: str
    name: str
    category: str
    status: Status
    label: str
    """The status, or the derived word that says more (scheduled, retrying, cancelling, stalled, held)."""
    queue: str
    priority: int
    progress: Progress
    attempt: int
    max_attempts: int
    failures: int
    crash_count: int
    timeout_s: float
    trigger_type: str
    triggered_by: str
    created_at: datetime
    due_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    heartbeat_at: datetime | None
    cancel_requested_at: datetime | None
    cancel_requested_by: str | None
    cancel_reason: str | None
    failure_kind: FailureKind | None
    error: str | None
    worker_id: UUID | None
    parent_run_id: UUID | None
    notify: bool
    revision: int
    """Grows with every change of the row: equal revisions are equal runs."""
    held_reason: str | None = None
    """Why a due run is not taken (label `held`)."""
    params: Any = None
    result: Any = None
    traceback: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    actions: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    expires_at: datetime | None = None
    blocked: int = 0
    """How many other runs or limits keep it from being ready."""
    requires_approval: bool = False
    pinned: bool = False
    """Kept for good."""
    approved_at: datetime | None = None
    approved_by: str | None = None
    request_hash: str | None = None
    """What an approval of it as it is now stands for; of whole records of what needs one."""
    idempotency_key: str | None = None
    dedupe_key: str | None = None
    concurrency_key: str | None = None
    callback_url: str | None = None
    continuation_of: UUID | None = None
    batch_id: UUID | None = None
    """The same for all runs that one batch of different runs has made."""
    job_id: UUID | None = None
    job: str | None = None
    """Slug of the saved job it is of."""
    job_version: int | None = None
    schedule_id: UUID | None = None
    """The schedule that made it."""
    environment: str | None = None
    backoff: Mapping[str, Any] | None = None
    """Its own, where it has one instead of its job type's."""
    lineage_depth: int = 0
    waits: tuple[Wait, ...] = ()
    parents: tuple[Kin, ...] = ()
    """Runs of other jobs whose ends have started it."""
    children: tuple[Kin, ...] = ()
    """Runs of other jobs that its end has started; at most a hundred."""
    deduplicated: bool = False
    """Set in the answer to a trigger that made no run because this one stands for it."""

    @property
    def shown_id(self) -> str:
        return show_id("run", self.id)

    @property
    def key(self) -> RunKey:
        return RunKey(self.created_at, self.id)

    @property
    def duration(self) -> timedelta | None:
        """From the first start to the end; None while it has not ended or never started."""
        return self.finished_at - self.started_at if self.started_at and self.finished_at else None


@dataclass(frozen=True, slots=True)
class RunEvent:
    """One fact of a run's history."""

    at: datetime
    kind: str
    actor: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that keeps a run from running, and the command that lifts it where there is one."""

    kind: str
    text: str
    command: str | None


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of a run's log. `id` grows within the run: it is the cursor for following."""

    id: int
    at: datetime
    level: str
    message: str
    attempt: int
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs a list shows; all parts must hold. Empty sets mean no restriction."""

    statuses: frozenset[str] = frozenset()
    """Statuses and labels, matched exactly."""
    job_type: str | None = None
    queue: str | None = None
    category: str | None = None
    project: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None
    """A substring of the job type, the name or the last message of an ended attempt, case-insensitive."""
    trigger_type: str | None = None
    """How it was made: one of `TriggerType`."""
    job_id: UUID | None = None
    """Only runs of this saved job."""


@dataclass(frozen=True, slots=True)
class RunPage:
    """One page of a list, newest first. `cursor` continues it; None at the end."""

    runs: tuple[Run, ...]
    cursor: str | None
    has_more: bool
    searched_to: datetime | None = None
    """Set where the page is not full although the list may go on: a page looks at a bounded number of runs, and
    these are all that the filter shows down to this time. `cursor` goes on from there."""


@dataclass(frozen=True, slots=True)
class RunStretch:
    """Runs of a list one after another, newest first."""

    runs: tuple[Run, ...]
    as_of: datetime
    """When it was read, by the database's clock."""
    stopped: RunKey | None = None
    """Set where looking was broken off before there were enough runs: down to here (upward: up to here) these are
    all, and whether more follow is not known. None: full, or the end of the list."""


class CancelEffect(StrEnum):
    """What a cancel did: the run ended at once, or its handler has been asked to stop."""

    NOW = "now"
    REQUESTED = "requested"


@dataclass(frozen=True, slots=True)
class CancelReply:
    """The truth about a cancel: `cancelled` is True only where the run has ended as cancelled."""

    run_id: UUID
    status: Status
    cancelled: bool
    effect: CancelEffect
