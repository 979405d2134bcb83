"""The statuses of a run, the transitions between them, and the labels people see. Pure.

`TRANSITIONS` is the only list of status changes; every UPDATE of `runs.status` takes its guard from here and a
test tries every pair that is not in it (spec.md 1.9).
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from typing import Final


class Status(StrEnum):
    """What is stored in `runs.status`."""

    AWAITING_APPROVAL = "awaiting_approval"
    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    DEAD = "dead"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Label(StrEnum):
    """What is shown instead of the status where it says more; derived, never stored."""

    SCHEDULED = "scheduled"
    RETRYING = "retrying"
    CANCELLING = "cancelling"
    STALLED = "stalled"
    PARKED = "parked"
    HELD = "held"


class TriggerType(StrEnum):
    """How a run came to be: what is stored in `runs.trigger_type`."""

    IMMEDIATE = "immediate"
    DELAYED = "delayed"
    SCHEDULED = "scheduled"
    """By the schedule of its job."""
    DEPENDENCY = "dependency"
    """By the end of a run of another job."""


class PauseKind(StrEnum):
    """What a pause holds back."""

    ALL = "all"
    """Everything, of all teams."""
    TEAM = "team"
    QUEUE = "queue"
    TYPE = "type"
    JOB = "job"


class FailureKind(StrEnum):
    """Why a run or an attempt did not complete."""

    ERROR = "error"
    TIMED_OUT = "timed_out"
    CRASHED = "crashed"
    REJECTED = "rejected"
    ABANDONED = "abandoned"
    INVALID_PARAMS = "invalid_params"
    DEPENDENCY = "dependency"


class Condition(StrEnum):
    """With what another run must have ended for the one that waits for it to go on."""

    COMPLETED = "completed"
    FAILED = "failed"
    """failed, dead or expired."""
    FINISHED = "finished"
    """However it ended."""


class OnConflict(StrEnum):
    """What becomes of a new run where an active one stands in its way."""

    REJECT = "reject"
    RETURN_EXISTING = "return_existing"
    REPLACE = "replace"
    """The one in the way is cancelled; where it runs already, the new one begins when it has let go."""
    QUEUE_LATEST = "queue_latest"
    """One that runs goes on, and of those that come meanwhile the latest follows it."""


class CatchUp(StrEnum):
    """What becomes of the fires of a schedule that nobody was there for."""

    SKIP = "skip"
    ONE = "one"
    """The latest of them."""
    ALL = "all"
    """All of them, or the latest `catch_up_max`."""


class Overlap(StrEnum):
    """What a fire does while the run of an earlier one is active."""

    ALLOW = "allow"
    SKIP = "skip"
    QUEUE = "queue"
    """It waits for that run; of several that wait the latest is left."""
    CANCEL_PREVIOUS = "cancel_previous"


class AttemptOutcome(StrEnum):
    """How one attempt ended."""

    COMPLETED = "completed"
    ERROR = "error"
    TIMED_OUT = "timed_out"
    CRASHED = "crashed"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"
    INTERRUPTED = "interrupted"
    SNOOZED = "snoozed"
    PARKED = "parked"


TERMINAL: Final = frozenset({Status.COMPLETED, Status.FAILED, Status.DEAD, Status.CANCELLED, Status.EXPIRED})
ACTIVE: Final = frozenset(Status) - TERMINAL
RETRYABLE: Final = TERMINAL - {Status.COMPLETED}
WAITING: Final = frozenset({Status.AWAITING_APPROVAL, Status.PENDING})

TRANSITIONS: Final[dict[Status, frozenset[Status]]] = {
    Status.AWAITING_APPROVAL: frozenset({Status.PENDING, Status.CANCELLED, Status.EXPIRED}),
    # Back to approval where what was approved has been changed.
    Status.PENDING: frozenset({Status.RUNNING, Status.CANCELLED, Status.EXPIRED, Status.AWAITING_APPROVAL}),
    Status.RUNNING: frozenset(
        {Status.COMPLETED, Status.FAILED, Status.DEAD, Status.PENDING, Status.CANCELLED}
    ),
    Status.COMPLETED: frozenset(),
    # Back to approval where it was never given.
    Status.FAILED: frozenset({Status.PENDING, Status.AWAITING_APPROVAL}),
    Status.DEAD: frozenset({Status.PENDING, Status.AWAITING_APPROVAL}),
    Status.CANCELLED: frozenset({Status.PENDING, Status.AWAITING_APPROVAL}),
    Status.EXPIRED: frozenset({Status.PENDING, Status.AWAITING_APPROVAL}),
}

GROUPS: Final[dict[str, frozenset[Status]]] = {
    "pending": WAITING,
    "running": frozenset({Status.RUNNING}),
    "completed": frozenset({Status.COMPLETED}),
    "failed": frozenset({Status.FAILED, Status.DEAD, Status.EXPIRED}),
    "cancelled": frozenset({Status.CANCELLED}),
}
"""The five classic names of `--group`, each a set of statuses."""


def sources_of(target: Status) -> frozenset[Status]:
    """Every status from which `target` may be reached: the guard of the UPDATE that sets it."""
    return frozenset(source for source, targets in TRANSITIONS.items() if target in targets)


def label_of(
    status: Status,
    *,
    due_in_future: bool = False,
    attempt: int = 0,
    cancel_requested: bool = False,
    stalled: bool = False,
    parked: bool = False,
    held: bool = False,
) -> str:
    """The word shown for a run. `attempt` counts tries so far; the flags are facts of the moment of reading."""
    if status is Status.PENDING:
        if due_in_future:
            return Label.RETRYING if attempt else Label.SCHEDULED
        return Label.HELD if held else status
    if status is Status.RUNNING:
        if cancel_requested:
            return Label.CANCELLING
        if parked:
            return Label.PARKED
        return Label.STALLED if stalled else status
    return status


@cache
def allowed_actions(status: Status, *, cancel_requested: bool = False) -> tuple[str, ...]:
    """What an operator may do to a run now: the `actions` of a run record (spec.md 1.4)."""
    actions: list[str] = []
    if status is Status.AWAITING_APPROVAL:
        actions += ["approve", "reject"]
    if status in ACTIVE and not cancel_requested:
        actions.append("cancel")
    if status in RETRYABLE:
        actions.append("retry")
    return tuple(actions)
