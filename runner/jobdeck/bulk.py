"""Acts on many runs at once: what is asked for, and how far it has come. Values and pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple
from uuid import UUID

from jobdeck.ids import show_id
from jobdeck.model import RunFilter
from jobdeck.states import ACTIVE, RETRYABLE, Label, Status


class BulkKind(StrEnum):
    """What is done to each run."""

    CANCEL = "cancel"
    RETRY = "retry"
    APPROVE = "approve"
    REJECT = "reject"


class BulkState(StrEnum):
    """How far an operation is."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    """Every run was visited, whatever became of it."""
    STOPPED = "stopped"
    """Somebody ended it; what was done stays done."""


ACTS_ON: Final[Mapping[BulkKind, frozenset[Status]]] = {
    BulkKind.CANCEL: ACTIVE,
    BulkKind.RETRY: RETRYABLE,
    BulkKind.APPROVE: frozenset({Status.AWAITING_APPROVAL}),
    BulkKind.REJECT: frozenset({Status.AWAITING_APPROVAL}),
}
"""Runs with another status are no match, whatever the filter says."""

SAMPLES: Final = 10
"""Refusals of which the whole text is kept; of the others their code is counted."""


class Target(NamedTuple):
    """A run as it was when the list was made."""

    run_id: UUID
    revision: int


@dataclass(frozen=True, slots=True)
class BulkPlan:
    """The runs that match now, oldest first: exactly those an operation made from it will visit."""

    kind: BulkKind
    chosen: RunFilter
    targets: Sequence[Target]

    @property
    def total(self) -> int:
        return len(self.targets)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A run that was left as it is, and why."""

    run_id: UUID
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Bulk:
    """One operation on many runs. `done + skipped + failed` grows to `total`."""

    id: UUID
    kind: BulkKind
    state: BulkState
    chosen: Mapping[str, Any]
    """The filter, as far as it said something."""
    requested_by: str
    reason: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    total: int
    done: int
    skipped: int
    """Refused, as the single act would have been: the run has changed meanwhile, or a rule forbids it."""
    failed: int
    """The database refused it for no reason that jobdeck knows."""
    refused: Mapping[str, int]
    """How many were left as they are, by the code of the error."""
    samples: tuple[Refusal, ...]
    """The first few of them."""

    @property
    def shown_id(self) -> str:
        return show_id("bulk", self.id)

    @property
    def visited(self) -> int:
        return self.done + self.skipped + self.failed

    @property
    def is_open(self) -> bool:
        """Whether there is something left to do."""
        return self.state in (BulkState.PENDING, BulkState.RUNNING)


def narrowed(kind: BulkKind, chosen: RunFilter) -> RunFilter | None:
    """The filter with the statuses the kind can act on; None where it leaves none of them."""
    acts_on = ACTS_ON[kind]
    if not chosen.statuses:
        return replace(chosen, statuses=frozenset(acts_on))
    # An unknown name stays, and is refused where the filter is read.
    kept = frozenset(
        name for name in chosen.statuses if (status := _status_of(name)) is None or status in acts_on
    )
    return replace(chosen, statuses=kept) if kept else None


def _status_of(name: str) -> Status | None:
    if name in (Label.CANCELLING, Label.STALLED):
        return Status.RUNNING
    if name in set(Label):
        return Status.PENDING
    return Status(name) if name in set(Status) else None


def filter_facts(chosen: RunFilter) -> dict[str, Any]:
    """What a filter says, for JSON."""
    facts = {
        "statuses": sorted(chosen.statuses),
        "job_type": chosen.job_type,
        "queue": chosen.queue,
        "category": chosen.category,
        "project": chosen.project,
        "since": None if chosen.since is None else chosen.since.isoformat(),
        "until": None if chosen.until is None else chosen.until.isoformat(),
        "text": chosen.text,
        "trigger_type": chosen.trigger_type,
        "job_id": None if chosen.job_id is None else show_id("job", chosen.job_id),
    }
    return {name: value for name, value in facts.items() if value}


def count_codes(codes: Iterable[str], before: Mapping[str, int]) -> dict[str, int]:
    """How often each code has come, in the order of the codes."""
    found = dict(before)
    for code in codes:
        found[code] = found.get(code, 0) + 1
    return dict(sorted(found.items()))
