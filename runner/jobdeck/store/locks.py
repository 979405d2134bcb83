"""The one order in which transactions wait for rows: runs before leases, and each in the order of their ids.

What depends on runs that have ended comes after all verbs: the jobs that are to be started, in the order of their ids.

Who keeps to it is never the victim of a deadlock. Rows taken by SKIP LOCKED are not waited for and may come in any
order. Who has to lock a run late, because one that it waits for has ended, waits for nobody either: where somebody else
has it the transaction is undone and tried again, with that run locked in its place in the order; only when that has not
helped is it waited for out of order. A lease is looked for when its run is locked, not earlier: it may have been made
while that was waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from jobdeck.store.differences import Differences
from jobdeck.store.schema import leases, runs


@dataclass(frozen=True, slots=True)
class Locks:
    """What an item of a verb waits for."""

    ids: Callable[[Any], Iterable[UUID]]
    """The runs whose leases are locked."""
    runs: bool = False
    """Whether the runs themselves are locked, before the leases."""
    seldom: bool = False
    """Whether most items wait for nothing: what locks nothing needs no order."""

    def matter(self, items: Iterable[Any]) -> bool:
        """Whether these items have to take their locks in one order with those of other verbs."""
        return not self.seldom or any(self.ids(item) for item in items)


def lock_runs(conn: Connection, differences: Differences, run_ids: Iterable[UUID]) -> None:
    """Lock these runs and what leases there are on them."""
    _lock(conn, differences, set(run_ids), set())


def lock_for(
    conn: Connection, differences: Differences, wanted: Iterable[tuple[Locks, Any]], late: Iterable[UUID]
) -> None:
    """Lock at once what some items of different verbs would lock one after the other, and runs needed `late`."""
    run_ids = set(late)
    lease_ids: set[UUID] = set()
    for locks, item in wanted:
        (run_ids if locks.runs else lease_ids).update(locks.ids(item))
    _lock(conn, differences, run_ids, lease_ids)


def _lock(conn: Connection, differences: Differences, run_ids: set[UUID], lease_ids: set[UUID]) -> None:
    if run_ids:
        differences.lock_rows(conn, runs.c.id, run_ids)
    if run_ids or lease_ids:
        differences.lock_rows(conn, leases.c.run_id, run_ids | lease_ids)
