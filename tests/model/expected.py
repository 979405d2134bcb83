"""What the store should do, in a few lines: one run as a record, and each verb as a change of such records.

Written from the table of transitions and the page of statuses, not from the store.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from jobdeck.states import Condition, Status

# Half seconds: acts are whole seconds apart and take a part of one, so that no two times are near each other.
LEASE_US = 30_500_000
ENDED = {Status.COMPLETED, Status.FAILED, Status.DEAD, Status.CANCELLED, Status.EXPIRED}
CRASHES = 3
RETRY_US = 7_500_000
"""What a run whose token said that it failed waits for its next attempt."""


@dataclass
class Expected:
    """A run as it should be. Times are microseconds of the database's clock."""

    id: UUID
    status: Status
    due_at: int
    max_attempts: int
    expires_at: int | None = None
    waits: dict[UUID, Condition] = field(default_factory=dict)
    """Open ones only."""
    fence: int = 0
    failures: int = 0
    crashes: int = 0
    lease_until: int = 0
    cancel_asked: bool = False
    approval: bool = False
    """It needs one, and nobody has given it."""
    pulled: bool = False
    """It is in a pull queue."""
    token: str | None = None
    """By which it is held, while it runs; None: a worker has it."""
    parked: bool = False

    @property
    def with_worker(self) -> bool:
        return self.status is Status.RUNNING and self.token is None

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    def ready(self, now: int) -> bool:
        """Whether a claim may take it."""
        in_time = self.expires_at is None or self.expires_at > now
        return self.status is Status.PENDING and not self.waits and self.due_at <= now and in_time


class World:
    """All runs, and how they act on each other."""

    def __init__(self) -> None:
        self.runs: dict[UUID, Expected] = {}

    def end(self, run: Expected, status: Status) -> None:
        """A run has ended: free who waits for that, end who waited for something else."""
        run.status = status
        run.waits.clear()
        for other in self.runs.values():
            condition = other.waits.pop(run.id, None)
            if condition is not None and not _met(condition, status):
                self.end(other, Status.CANCELLED)

    def claim(self, run: Expected, now: int) -> None:
        """A worker takes a run."""
        run.status, run.fence, run.lease_until = Status.RUNNING, run.fence + 1, now + LEASE_US
        run.expires_at, run.token, run.parked = None, None, False

    def complete(self, run: Expected) -> None:
        """Its handler returned, whoever has asked for a cancel meanwhile."""
        self.end(run, Status.COMPLETED)

    def fail(self, run: Expected, due_at: int) -> None:
        """Its handler raised."""
        if run.cancel_asked:
            self.end(run, Status.CANCELLED)
            return
        run.failures += 1
        if run.max_attempts == 1:
            self.end(run, Status.FAILED)
        elif run.failures >= run.max_attempts:
            self.end(run, Status.DEAD)
        else:
            run.status, run.due_at = Status.PENDING, due_at

    def give_back(self, run: Expected, due_at: int) -> None:
        """It was snoozed or interrupted."""
        if run.cancel_asked:
            self.end(run, Status.CANCELLED)
        else:
            run.status, run.due_at = Status.PENDING, due_at

    def crash(self, run: Expected, now: int) -> None:
        """Its lease has run out, and somebody has seen that."""
        if run.parked:
            self.fail(run, now + RETRY_US)
            return
        if run.cancel_asked:
            self.end(run, Status.CANCELLED)
            return
        run.crashes += 1
        if run.crashes >= CRASHES:
            self.end(run, Status.DEAD)
        else:
            run.status, run.due_at = Status.PENDING, now

    def cancel(self, run: Expected) -> None:
        """Somebody wants it to stop; nobody would tell one that is parked."""
        if run.status is Status.RUNNING and not run.parked:
            run.cancel_asked = True
        else:
            run.cancel_asked = True
            self.end(run, Status.CANCELLED)

    def retry(self, run: Expected, now: int) -> None:
        """An ended run begins anew."""
        run.status = Status.AWAITING_APPROVAL if run.approval else Status.PENDING
        run.due_at, run.expires_at = now, None
        run.failures = run.crashes = 0
        run.cancel_asked = False


def _met(condition: Condition, status: Status) -> bool:
    wanted = {
        Condition.COMPLETED: {Status.COMPLETED},
        Condition.FAILED: {Status.FAILED, Status.DEAD, Status.EXPIRED},
        Condition.FINISHED: ENDED,
    }
    return status in wanted[condition]
