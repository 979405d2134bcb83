"""Runs that are about to be stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from jobdeck import limits
from jobdeck.errors import JobdeckError
from jobdeck.states import Condition, OnConflict, TriggerType


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
    trigger_type: str = TriggerType.IMMEDIATE
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
