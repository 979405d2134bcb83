"""What the end of one attempt makes of its run. Pure: the only place where outcome, counters and cancel meet.

Rows of spec.md 1.9: return / non-retryable or max_attempts=1 / exhausted / retryable / snooze / timeout / crash /
interrupt / cancel requested.
"""

from __future__ import annotations

from typing import NamedTuple

from jobdeck import limits
from jobdeck.states import AttemptOutcome, FailureKind, Status


class Parking(NamedTuple):
    """What a handler has left its run with: not its end yet."""

    token_hash: str
    """Digest of the token by which others end it."""
    wait_us: int
    """How long they have, where `until` does not say it."""
    until: int | None = None
    """Microseconds UTC."""


class Ending(NamedTuple):
    """How an attempt ended, as the worker saw it (or, for a crash, as whoever found the expired lease)."""

    outcome: AttemptOutcome
    result: str | None = None
    """Compact JSON, for `completed`."""
    error: str | None = None
    traceback: str | None = None
    retry_in_us: int | None = None
    """How long to wait where the run goes on; None leaves it to the job type's backoff."""
    final: bool = False
    """The handler discarded the run, or its params are not valid: no further attempt."""
    failure_kind: FailureKind | None = None
    """Where the outcome does not say it already."""
    parking: Parking | None = None
    """For `parked`."""
    trace: str | None = None
    """What the attempt spent its time on, as JSON; None of one that crashed."""


class Facts(NamedTuple):
    """The run's counters as the attempt ends."""

    failures: int
    crash_count: int
    max_attempts: int
    cancel_requested: bool


class Verdict(NamedTuple):
    """The run's next state. `wait_us` counts only where `status` is pending."""

    status: Status
    failure_kind: FailureKind | None
    failures: int
    crash_count: int
    wait_us: int = 0


_KINDS = {
    AttemptOutcome.ERROR: FailureKind.ERROR,
    AttemptOutcome.TIMED_OUT: FailureKind.TIMED_OUT,
    AttemptOutcome.CRASHED: FailureKind.CRASHED,
    AttemptOutcome.ABANDONED: FailureKind.ABANDONED,
}


def decide(ending: Ending, facts: Facts) -> Verdict:
    """The run's next state after an attempt."""
    outcome = ending.outcome
    kind = ending.failure_kind or _KINDS.get(outcome)
    if outcome is AttemptOutcome.COMPLETED:
        return Verdict(Status.COMPLETED, None, facts.failures, facts.crash_count)
    if outcome is AttemptOutcome.ABANDONED:
        return Verdict(Status.CANCELLED, kind, facts.failures, facts.crash_count)
    if facts.cancel_requested or outcome is AttemptOutcome.CANCELLED:
        return Verdict(Status.CANCELLED, None, facts.failures, facts.crash_count)
    if outcome is AttemptOutcome.INTERRUPTED:
        # The worker's end is no reason for the run to wait.
        return Verdict(Status.PENDING, None, facts.failures, facts.crash_count)
    if outcome is AttemptOutcome.SNOOZED:
        return Verdict(Status.PENDING, None, facts.failures, facts.crash_count, ending.retry_in_us or 0)
    if outcome is AttemptOutcome.CRASHED:
        return _after_crash(kind, facts)
    return _after_failure(ending, kind, facts)


def _after_crash(kind: FailureKind | None, facts: Facts) -> Verdict:
    crashes = max(facts.crash_count, 0) + 1
    if crashes >= limits.CRASH_BUDGET:
        return Verdict(Status.DEAD, kind, facts.failures, crashes)
    return Verdict(Status.PENDING, None, facts.failures, crashes)


def _after_failure(ending: Ending, kind: FailureKind | None, facts: Facts) -> Verdict:
    # Nobody counts below zero: a row that says so would be tried again for ever.
    failures = max(facts.failures, 0) + 1
    if ending.final or facts.max_attempts == 1:
        return Verdict(Status.FAILED, kind, failures, facts.crash_count)
    if failures >= facts.max_attempts:
        return Verdict(Status.DEAD, kind, failures, facts.crash_count)
    return Verdict(Status.PENDING, kind, failures, facts.crash_count, ending.retry_in_us or 0)
