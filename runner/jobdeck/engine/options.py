"""How a worker is set up: its options, and what the composition root hands over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from jobdeck import limits
from jobdeck.clock import Clock, SystemClock
from jobdeck.delivery import MakeSender
from jobdeck.net import GuardedClient
from jobdeck.plugins import Plugins
from jobdeck.secret import Lookup, from_environment
from jobdeck.store.claim import ClaimedRun
from jobdeck.store.database import Database
from jobdeck.store.jobs.schedules import DueSchedule, Fire

EnqueueChild = Callable[[ClaimedRun, str, Mapping[str, Any], Mapping[str, Any]], Awaitable[UUID]]
PlanFire = Callable[[DueSchedule, datetime], Awaitable[Fire]]
SettingsFor = Callable[[ClaimedRun], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker works; durations in seconds."""

    queues: tuple[str, ...] = ()
    """Empty: every queue."""
    labels: tuple[str, ...] = ()
    """What it offers; its plugins are chosen by them already."""
    concurrency: int = limits.WORKER_CONCURRENCY
    lease: float = limits.LEASE
    poll: float = 1.0
    cancel_notice: float = limits.CANCEL_NOTICE
    report_every: float = 0.25
    shutdown_grace: float = limits.SHUTDOWN_GRACE
    drain: bool = False
    """End when nothing of its queues is due or running."""

    @property
    def lease_us(self) -> int:
        """The lease in the unit of the database."""
        return int(self.lease * 1_000_000)


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """What the composition root hands over."""

    database: Database
    plugins: Plugins
    http: Callable[[], GuardedClient]
    """Makes the guarded client, on the handlers' loop."""
    enqueue_child: EnqueueChild
    settings_for: SettingsFor
    clock: Clock = field(default_factory=SystemClock)
    plan_fire: PlanFire | None = None
    """None: it fires no schedules."""
    senders: Mapping[str, MakeSender] = field(default_factory=dict)
    """How it sends notifications, by channel."""
    secrets: Callable[[str], Lookup] = lambda _team: from_environment
    """Where the runs of a team find secrets."""
