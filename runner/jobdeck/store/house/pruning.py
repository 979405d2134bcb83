"""A whole round of pruning: batch after batch, with room for everybody else between them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from jobdeck.clock import from_us
from jobdeck.retention import Retention
from jobdeck.states import TERMINAL, Status
from jobdeck.store.database import Database
from jobdeck.store.house.prune import BATCH, Batch, Lane, Pruned, lanes, look, prune, prune_bulk

_PAUSE_MAX: Final = 0.5
"""Seconds. After each batch as long a pause as it took, so that pruning has at most half of the database's time."""

BULK_KEPT: Final = timedelta(days=90)
"""How long an act on many runs is shown after its end: as long as runs that failed, unless settings say otherwise."""


@dataclass(slots=True)
class Pruning:
    """What became of the runs of one status, or would."""

    keep: timedelta
    """How long they are kept."""
    runs: int = 0
    oldest: datetime | None = None
    """When the oldest of them ended."""

    def add(self, done: Pruned) -> None:
        self.runs += len(done.ids)
        if done.oldest_us is not None and done.ids:
            ended = from_us(done.oldest_us)
            self.oldest = ended if self.oldest is None else min(ended, self.oldest)


@dataclass(slots=True)
class PruneReport:
    """What was dropped, or would be, by status; statuses that are kept for good are left out."""

    dry_run: bool
    by_status: dict[Status, Pruning] = field(default_factory=dict)
    kept: int = 0
    """Old enough, and kept: pinned, standing for a key, or together with one that is pinned or active."""

    @property
    def runs(self) -> int:
        return sum(each.runs for each in self.by_status.values())


def keeps(retention: Retention, statuses: Collection[Status] = TERMINAL) -> dict[Status, timedelta]:
    """How long each of these statuses is kept; those that are kept for good are left out."""
    found = {status: retention.of(status) for status in sorted(statuses)}
    return {status: keep for status, keep in found.items() if keep is not None}


async def prune_all(
    database: Database,
    keep: Mapping[Status, timedelta],
    *,
    dry_run: bool = False,
    each: Callable[[PruneReport], None] = lambda _: None,
) -> PruneReport:
    """Drop every run that has been kept for as long as `keep` says; `each` hears of every batch and may raise.

    Raises DatabaseError; what was dropped by then stays dropped.
    """
    report = PruneReport(dry_run, {status: Pruning(span) for status, span in keep.items()})
    now = await database.read(database.now_of)
    for lane in await database.read(lanes, tuple(keep)):
        before = now - int(keep[lane.status].total_seconds() * 1_000_000)
        await _along(database, lane, before, report, each)
    return report


async def _along(
    database: Database, lane: Lane, before: int, report: PruneReport, each: Callable[[PruneReport], None]
) -> None:
    batch: Batch | None = Batch(lane, before)
    while batch is not None:
        begun = time.monotonic()
        done = await _looked(database, batch)
        if done.ids and not report.dry_run:
            done = await database.write(prune, batch)
        report.by_status[lane.status].add(done)
        report.kept += done.kept
        each(report)
        if done.ids and not report.dry_run:
            await asyncio.sleep(min(time.monotonic() - begun, _PAUSE_MAX))
        batch = None if done.last is None else Batch(lane, before, done.last)


async def _looked(database: Database, batch: Batch) -> Pruned:
    def read(conn: Connection) -> Pruned:
        return look(conn, database.differences, database.now_of(conn), batch)

    return await database.read(read)


async def prune_operations(database: Database) -> int:
    """Forget acts on many runs that ended longer ago than `BULK_KEPT`; how many. Raises DatabaseError."""
    before = await database.read(database.now_of) - int(BULK_KEPT.total_seconds() * 1_000_000)
    gone, some = 0, BATCH
    while some == BATCH:
        gone += (some := await database.write(prune_bulk, before))
    return gone
