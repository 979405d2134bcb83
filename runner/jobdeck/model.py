"""The values that travel between store, engine, client and front ends. Immutable; times are aware UTC datetimes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from jobdeck import limits
from jobdeck.errors import JobdeckError
from jobdeck.ids import show_id
from jobdeck.states import Condition, FailureKind, OnConflict, PauseKind, Status


@dataclass(frozen=True, slots=True)
class TeamScope:
    """The team every read and write of team data is bound to; there is no way to the data without one."""

    team_id: UUID
    slug: str


@dataclass(frozen=True, slots=True)
class Team:
    id: UUID
    slug: str
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Project:
    id: UUID
    team_id: UUID
    slug: str
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class JobType:
    """A job type as its workers registered it; readable where its package is not installed."""

    name: str
    title: str
    category: str
    scope: str
    schema: Mapping[str, Any]
    defaults: Mapping[str, Any]
    """Policies a run takes over where the trigger names none: max_attempts, timeout_s, single_flight."""
    package: str
    version: str
    description: str = ""
    labels: tuple[str, ...] = ()
    """What a worker must offer to take its runs."""
    live_workers: int = 0


@dataclass(frozen=True, slots=True)
class Dependency:
    """One job starts after another one; here is that other one, or the one that starts."""

    job_id: UUID
    job: str
    """Slug."""
    project: str | None
    condition: Condition
    met_run_id: UUID | None = None
    """The run that has met the condition since the last start."""


class DependsOn(NamedTuple):
    """As somebody wants it: not checked yet."""

    job: str
    """Slug in the project, or id."""
    condition: Condition = Condition.COMPLETED


@dataclass(frozen=True, slots=True)
class Job:
    """A saved definition of what is run, in its newest version."""

    id: UUID
    team_id: UUID
    project_id: UUID | None
    project: str | None
    slug: str
    version: int
    enabled: bool
    facts: Mapping[str, Any]
    """The definition as it is stored: what differs from the defaults. See `jobdeck.definition`."""
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str
    archived_at: datetime | None
    schedule_id: UUID | None = None
    next_fire_at: datetime | None = None
    last_fire_at: datetime | None = None
    schedule_note: str | None = None
    """Why the last fire made no run."""
    depends_on: tuple[Dependency, ...] = ()
    """It starts after these, when all have ended as asked."""
    dependants: tuple[Dependency, ...] = ()
    """These start after it."""

    @property
    def shown_id(self) -> str:
        return show_id("job", self.id)

    @property
    def job_type(self) -> str:
        return str(self.facts["type"])


@dataclass(frozen=True, slots=True)
class JobVersion:
    """One version of a job's definition; it never changes."""

    job_id: UUID
    version: int
    facts: Mapping[str, Any]
    created_at: datetime
    created_by: str
    note: str | None


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job as somebody wants it: not checked yet."""

    slug: str
    definition: Mapping[str, Any]
    enabled: bool = True
    depends_on: tuple[DependsOn, ...] = ()


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs a list shows; all parts must hold."""

    project: str | None = None
    job_type: str | None = None
    enabled: bool | None = None
    archived: bool = False
    text: str | None = None
    """A part of the slug or the name."""


class Change(NamedTuple):
    """A field of a definition that differs; None where it is left out."""

    field: str
    before: Any
    after: Any


class PlanAction(StrEnum):
    """What applying a file does to a job."""

    CREATE = "create"
    UPDATE = "update"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class PlanStep:
    """One job of a file: what is done to it, and which fields change (before, after)."""

    slug: str
    project: str | None
    action: PlanAction
    changes: tuple[Change, ...] = ()


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


class JobRef(NamedTuple):
    """The saved job that a run is of."""

    id: UUID
    version: int
    overrides: str | None
    """JSON of what the trigger stated over the definition; None where it stated nothing."""
    environment: str | None = None
    force: bool = False
    """Whether a disabled job is no hindrance."""
    schedule_id: UUID | None = None
    fire_at: datetime | None = None
    """The fire of the schedule that the run is."""


class RunExtras(NamedTuple):
    """What few runs have. A run without any is stored the quick way."""

    ttl: timedelta | None = None
    """How long after the database's now it may begin."""
    requires_approval: bool = False
    idempotency_key: str | None = None
    request: str = ""
    """Digest of what was asked for: under one idempotency key it must not change."""
    dedupe_key: str | None = None
    dedupe_window: timedelta | None = None
    """None: the dedupe key stands while a run with it is active."""
    on_conflict: OnConflict | None = None
    """None: reject under a single flight, return the existing run under the other keys."""
    continuation_of: UUID | None = None
    backoff: str | None = None
    """JSON of its own backoff."""
    after: tuple[tuple[UUID, Condition], ...] = ()
    """Runs whose end it waits for."""
    concurrency_key: str | None = None
    """Runs of one job, or of one type without a job, that have the same key share its places."""
    callback_url: str | None = None
    announces: bool = False
    """Whether somebody may be told of its end."""
    job: JobRef | None = None
    batch_id: UUID | None = None
    """Of the runs that one call of `trigger_batch` has made."""


class NewRun(NamedTuple):
    """A run to be enqueued, validated. Made by the client; `id` is fixed before the commit."""

    id: UUID
    team_id: UUID
    project_id: UUID | None
    job_type: str
    params: str
    """Compact JSON text of the params."""
    name: str
    category: str
    queue: str = limits.DEFAULT_QUEUE
    priority: int = limits.PRIORITY_DEFAULT
    trigger_type: str = "immediate"
    triggered_by: str = "system"
    due_at: datetime | None = None
    """None: now, by the database's clock."""
    delay: timedelta | None = None
    """Due this long after the database's now; goes before `due_at`."""
    max_attempts: int = limits.MAX_ATTEMPTS_DEFAULT
    timeout_s: float = 0.0
    flight_key: str | None = None
    """Single flight: at most one active run per (project, job type, key)."""
    parent_run_id: UUID | None = None
    notify: bool = False
    tags: str | None = None
    metadata: str | None = None
    debug_mode: bool = False
    lineage_depth: int = 0
    """How many generations of parents it has."""
    extras: RunExtras | None = None


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
class Pause:
    """Nothing of what it names begins until it is over; what runs goes on."""

    id: UUID
    kind: PauseKind
    name: str
    """Of the queue, the job type or the job; of the team; empty for everything."""
    reason: str | None
    actor: str
    at: datetime
    until: datetime | None
    """None: until somebody resumes it."""
    gate: int | None = None
    """Of a job: what the store knows its runs by."""

    def holds(self, queue: str, job_type: str, gate: int) -> bool:
        """Whether it holds a run of this queue, type and gate of the team back."""
        match self.kind:
            case PauseKind.QUEUE:
                return self.name == queue
            case PauseKind.TYPE:
                return self.name == job_type
            case PauseKind.JOB:
                return self.gate == gate
        return True


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
    """How it was made: immediate, delayed, scheduled …"""
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


@dataclass(frozen=True, slots=True)
class Worker:
    """One runner process as it last reported."""

    id: UUID
    host: str
    pid: int
    version: str
    state: str
    """idle, busy, stalled, draining, stopped or lost."""
    queues: tuple[str, ...]
    job_types: tuple[str, ...]
    slots: int
    running: int
    started_at: datetime
    seen_at: datetime
    finished_runs: int
    labels: tuple[str, ...] = ()
    """What it offers to job types that ask for it."""

    @property
    def label(self) -> str:
        return f"{self.host}:{self.pid}"


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One run of a batch: as asked for, not validated yet. Options are the fields of `RunOptions`."""

    job_type: str
    params: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of one item of a batch: a run, its own or the one that stood for it, or an error."""

    run_id: UUID | None = None
    deduplicated: bool = False
    error: JobdeckError | None = None


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
