"""How runs went over a time: counts, durations, and the health of a job. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

HEALTH_RUNS: Final = 5
"""Fewer ended runs say nothing about a job's health (spec.md X22)."""


class Grouping(StrEnum):
    """What statistics are counted by."""

    STATUS = "status"
    TYPE = "type"
    QUEUE = "queue"


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of the runs that were made in some time; each of them is counted once."""

    active: int = 0
    """Not ended yet."""
    completed: int = 0
    failed: int = 0
    """Failed or dead, but for what follows."""
    timed_out: int = 0
    crashed: int = 0
    cancelled: int = 0
    expired: int = 0
    average_secs: float | None = None
    """Of the completed ones, from the first start to the end."""
    p95_secs: float | None = None
    """So long or less took 95 of 100 completed ones (the nearest rank)."""

    @property
    def total(self) -> int:
        return self.active + self.judged + self.cancelled + self.expired

    @property
    def ended(self) -> int:
        return self.total - self.active

    @property
    def judged(self) -> int:
        """Those that say something about the job: neither cancelled nor expired."""
        return self.completed + self.failed + self.timed_out + self.crashed

    @property
    def success_rate(self) -> float | None:
        """Between 0 and 1."""
        return self.completed / self.judged if self.judged else None


@dataclass(frozen=True, slots=True)
class Health:
    """How the runs of a job went that were made in the window, beside those of the window before."""

    since: datetime
    until: datetime
    outcomes: Outcomes
    p95_before_secs: float | None

    @property
    def score(self) -> float | None:
        """0 to 100; None where there are not enough runs. See `health_score`."""
        outcomes = self.outcomes
        if outcomes.judged < HEALTH_RUNS:
            return None
        unstable = (outcomes.timed_out + outcomes.crashed) / outcomes.judged
        latency = latency_factor(self.p95_before_secs, outcomes.p95_secs)
        return health_score(outcomes.completed / outcomes.judged, unstable, latency)


def health_score(success_rate: float, crash_or_timeout_rate: float, latency: float) -> float:
    """0 to 100, of three factors between 0 and 1 (spec.md X22)."""
    return 100 * (0.6 * success_rate + 0.2 * (1 - crash_or_timeout_rate) + 0.2 * latency)


def latency_factor(p95_before: float | None, p95_now: float | None) -> float:
    """1 where runs are as quick as in the window before, or where one of the windows has none to compare."""
    if not p95_before or not p95_now:
        return 1.0
    return min(1.0, p95_before / p95_now)


@dataclass(frozen=True, slots=True)
class Statistics:
    """How the runs of a team went that were made in the window; `groups` by their names where they were asked for."""

    since: datetime
    until: datetime
    total: Outcomes
    groups: dict[str, Outcomes]

    @property
    def window(self) -> timedelta:
        return self.until - self.since

    def per_hour(self, outcomes: Outcomes) -> float:
        """Throughput: ended runs."""
        return outcomes.ended / (self.window.total_seconds() / 3_600)
