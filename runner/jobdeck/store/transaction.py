"""What a store verb works with, and what a verb is.

A verb is a plain function `(tx, items) -> results`, set-based: one statement per kind, however many items. Whatever
waits in a process joins one transaction; each item gets its own result after the commit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Flag, IntEnum, auto
from itertools import groupby
from typing import Any, Final, Generic, NamedTuple, TypeVar
from uuid import UUID

from sqlalchemy import Connection

from jobdeck.errors import JobdeckError
from jobdeck.limits import SYSTEM_TYPES
from jobdeck.states import Status
from jobdeck.store.differences import Differences
from jobdeck.store.locks import Locks

I = TypeVar("I")  # noqa: E741  the item of a verb
R = TypeVar("R")


class Hint(Flag):
    """What a commit may have changed for others: a reason to look, never the truth itself."""

    NONE = 0
    WORK = auto()
    """Something may have become claimable."""
    CANCEL = auto()
    """A running run has been asked to stop."""
    CHANGE = auto()
    """Something people look at has changed."""
    MAIL = auto()
    """A notification may have become due."""


ALL_HINTS: Final = ~Hint.NONE


class JobEnd(NamedTuple):
    """A run of a saved job has ended."""

    run_id: UUID
    job_id: UUID
    status: Status


class Told(NamedTuple):
    """What a verb has changed, in the words of the audit; None for what there is nothing to say about."""

    target: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


@dataclass(slots=True)
class Tx:
    """One open write transaction. `now` is the database's clock, microseconds UTC, read once as it began."""

    conn: Connection
    now: int
    differences: Differences
    hints: Hint = field(default=Hint.NONE)
    told: dict[int, list[Told]] = field(default_factory=dict)
    """What was told of items, by the identity of each."""
    ends: list[JobEnd] = field(default_factory=list)
    """Runs of saved jobs that have ended: other jobs may start after them."""
    patient: bool = True
    """Whether it may wait for locks out of the order of all transactions, and risk a deadlock: where nobody would try
    it again."""
    locked: bool = False
    """Whether the runs and leases that the items of its verbs name were locked before the first verb."""
    _moves: list[tuple[UUID, str, Status | None, Status | None]] = field(default_factory=list)

    def count(self, team_id: UUID, job_type: str, before: Status | None, after: Status | None) -> None:
        """A run of a team has another status now; `before` is None for a new one, `after` for one that is dropped."""
        self._moves.append((team_id, job_type, before, after))

    def tell(
        self,
        item: object,
        target: str,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
    ) -> None:
        """Tell the audit what an item has changed; nothing comes of it where no person's act is under way."""
        self.told.setdefault(id(item), []).append(Told(target, before, after))

    def moved(self) -> Counter[tuple[UUID, str]]:
        """By how much the number of runs of a team with a status has changed. System types are not counted."""
        changes: Counter[tuple[UUID, str]] = Counter()
        # Like runs follow each other, and to compare ids costs less than to hash them.
        for (team_id, job_type, before, after), same in groupby(self._moves):
            # SQLite may have bytes there, put by hand.
            if before is after or str(job_type).startswith(SYSTEM_TYPES):
                continue
            runs = sum(1 for _ in same)
            if before is not None:
                changes[team_id, before] -= runs
            if after is not None:
                changes[team_id, after] += runs
        return changes

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """What is done inside is done as a whole: an error takes it back, and leaves with the transaction as it was."""
        moves, ends, told = len(self._moves), len(self.ends), len(self.told)
        with self.conn.begin_nested() as savepoint:
            try:
                yield
            except BaseException:
                savepoint.rollback()
                del self._moves[moves:], self.ends[ends:]
                while len(self.told) > told:
                    self.told.popitem()
                raise

    def hint(self, hint: Hint) -> None:
        """Tell the others after the commit."""
        self.hints |= hint


class Rank(IntEnum):
    """Order of verbs inside one transaction: what keeps leases alive goes first."""

    BEAT = 0
    REPORT = 1
    FINISH = 2
    CHANGE = 3
    ENQUEUE = 4
    CLAIM = 5
    PEOPLE = 6
    """What locks a team: whoever waits for one holds everything else already."""
    SEAL = 7


@dataclass(frozen=True, slots=True)
class Verb(Generic[I, R]):
    """A set-based write. `run` returns one result per item; a JobdeckError as a result fails that item alone."""

    run: Callable[[Tx, Sequence[I]], Sequence[R | JobdeckError]]
    rank: Rank
    locks: Locks | None = None
    """Inside the verb they are taken in the order of all transactions."""

    @property
    def name(self) -> str:
        return self.run.__name__

    def __call__(self, tx: Tx, items: Sequence[I]) -> Sequence[R | JobdeckError]:
        return self.run(tx, items)


def verb(
    rank: Rank, locks: Locks | None = None
) -> Callable[[Callable[[Tx, Sequence[I]], Sequence[R | JobdeckError]]], Verb[I, R]]:
    """Declare a set-based verb."""

    def declare(run: Callable[[Tx, Sequence[I]], Sequence[R | JobdeckError]]) -> Verb[I, R]:
        return Verb(run, rank, locks)

    return declare


Read = Callable[..., Any]
