"""Job types, and saved jobs with their versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from jobdeck.ids import show_id
from jobdeck.states import Condition


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
