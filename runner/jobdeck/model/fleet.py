"""Workers, and what holds all of them back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from jobdeck.states import PauseKind


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
