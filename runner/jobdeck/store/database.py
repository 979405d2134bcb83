"""The one seam between jobdeck and its database: writes are verbs that join a group commit, reads are functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection

from jobdeck.errors import JobdeckError
from jobdeck.store.batch import Part, Results
from jobdeck.store.differences import Differences
from jobdeck.store.signals import Deafness, Signals
from jobdeck.store.transaction import I, R, Verb

P = ParamSpec("P")
T = TypeVar("T")


class Database(Protocol):
    """An open database. `write` and `read` may be awaited from the event loop it was opened on."""

    differences: Differences
    signals: Signals
    offset_us: int
    """Moves the database's clock; for tests alone."""

    @property
    def deafness(self) -> Deafness | None:
        """Why hints of other processes do not come; None where they do."""

    async def open(self) -> None:
        """Connect. Raises DatabaseUnavailable."""

    async def close(self) -> None:
        """Commit what waits, then disconnect."""

    async def write(self, verb: Verb[I, R], item: I) -> R:
        """Commit one item, together with whatever else waits; its result, or its error raised."""

    async def write_many(self, verb: Verb[I, R], items: Sequence[I]) -> list[R | JobdeckError]:
        """Commit many items; one result or error for each, a DatabaseError where the database itself failed."""

    def submit(self, parts: Sequence[Part], done: Callable[[Results], None]) -> None:
        """Commit several verbs' items in one transaction; `done` is called with their results on this event loop.

        For who writes all the time and has no use for a task that waits. Raises DatabaseUnavailable where the
        database is closed; whatever happens later is in the results.
        """

    async def read(
        self, query: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a function of reads in one consistent snapshot."""

    def now_of(self, conn: Connection) -> int:
        """The database's clock, microseconds UTC."""

    def checked_out(self) -> int:
        """Connections in use right now; zero when nothing is under way."""


def settled(results: Sequence[Any]) -> list[Any]:
    """Results of many items; what a driver raised about one of them becomes the error of that item alone."""
    return [
        JobdeckError(f"the database refused it: {type(result).__name__}")
        if isinstance(result, Exception) and not isinstance(result, JobdeckError)
        else result
        for result in results
    ]
