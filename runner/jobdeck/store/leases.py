"""What a worker writes while it holds runs: beats, progress, logs, checkpoints. All guarded by run and fence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import and_, bindparam, case, delete, insert, select, update

from jobdeck.errors import JobdeckError, StaleLease
from jobdeck.ids import show_id
from jobdeck.model import Progress
from jobdeck.store.schema import checkpoints, leases, run_logs, workers
from jobdeck.store.transaction import Hint, Rank, Tx, verb


@dataclass(frozen=True, slots=True)
class Beat:
    """A worker's sign of life, and the runs it holds."""

    worker_id: UUID
    runs: tuple[UUID, ...]
    lease_us: int
    stalled: bool
    running: int
    finished_runs: int
    state: str
    rss_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """A lease that was extended; a run that is not among the answers is lost."""

    run_id: UUID
    fence: int
    cancel_requested: bool


@dataclass(frozen=True, slots=True)
class LogLine:
    """One entry; `at` in microseconds by the worker's clock, `fields` compact JSON."""

    at: int
    level: str
    message: str
    fields: str | None


@dataclass(frozen=True, slots=True)
class Report:
    """What one attempt had to say since the last report."""

    run_id: UUID
    fence: int
    attempt: int
    progress: Progress | None
    progress_gap_us: int | None
    """The usual time between two progress calls of this attempt; None before the second."""
    lines: tuple[LogLine, ...]
    log_bytes: int
    """Bytes of log of this run so far, all attempts."""


@dataclass(frozen=True, slots=True)
class SaveCheckpoint:
    """State for a later attempt, compact JSON."""

    run_id: UUID
    fence: int
    state: str


@dataclass(frozen=True, slots=True)
class LeaseCheck:
    """The question whether a fence is still the current one."""

    run_id: UUID
    fence: int


@verb(Rank.BEAT)
def beat(tx: Tx, items: Sequence[Beat]) -> Sequence[list[Held] | JobdeckError]:
    """Extend the leases that have not expired; for each worker the ones it still holds."""
    return [_beat_one(tx, item) for item in items]


def _beat_one(tx: Tx, item: Beat) -> list[Held]:
    tx.conn.execute(
        update(workers)
        .where(workers.c.id == item.worker_id)
        .values(
            seen_at=tx.now,
            alive_until=tx.now + item.lease_us,
            stalled=item.stalled,
            running=item.running,
            finished_runs=item.finished_runs,
            state=item.state,
            rss_bytes=item.rss_bytes,
        )
    )
    if not item.runs:
        return []
    extended = (
        update(leases)
        # An expired lease stays expired: somebody may be about to take the run over.
        .where(
            leases.c.worker_id == item.worker_id,
            leases.c.run_id.in_(item.runs),
            leases.c.lease_until > tx.now,
        )
        .values(
            lease_until=tx.now + item.lease_us,
            beat_at=tx.now,
            stalled=item.stalled,
            revision=leases.c.revision + case((leases.c.stalled != item.stalled, 1), else_=0),
        )
        .returning(leases.c.run_id, leases.c.fence, leases.c.cancel_requested_at)
    )
    return [
        Held(row.run_id, row.fence, row.cancel_requested_at is not None) for row in tx.conn.execute(extended)
    ]


@verb(Rank.REPORT)
def report(tx: Tx, items: Sequence[Report]) -> Sequence[JobdeckError | None]:
    """Progress and log lines of running attempts; StaleLease for those that are not the current ones."""
    current = held_fences(tx, [item.run_id for item in items])
    valid = [item for item in items if current.get(item.run_id) == item.fence]
    write_reports(tx, valid)
    return [None if current.get(item.run_id) == item.fence else stale(item.run_id) for item in items]


def held_fences(tx: Tx, run_ids: Iterable[UUID]) -> dict[UUID, int]:
    """The current fences of running runs; the leases stay as they are until the transaction ends."""
    query = select(leases.c.run_id, leases.c.fence).where(leases.c.run_id.in_(set(run_ids)))
    query = tx.differences.locked(query.order_by(leases.c.run_id), share=True)
    return {row.run_id: row.fence for row in tx.conn.execute(query)}


def write_reports(tx: Tx, items: Sequence[Report]) -> None:
    """Store reports whose fences have been checked in this transaction."""
    moved = [item for item in items if item.progress is not None]
    if moved:
        tx.conn.execute(_set_progress, [_progress_row(item, tx.now) for item in moved])
    lines = [
        {
            "run_id": item.run_id,
            "attempt": item.attempt,
            "at": line.at,
            "level": line.level,
            "message": line.message,
            "fields": line.fields,
        }
        for item in items
        for line in item.lines
    ]
    if lines:
        tx.conn.execute(insert(run_logs), lines)
        tx.conn.execute(
            _set_log_bytes,
            [
                {"b_run": item.run_id, "b_fence": item.fence, "b_bytes": item.log_bytes}
                for item in items
                if item.lines
            ],
        )
    if moved or lines:
        tx.hint(Hint.CHANGE)


_guard = and_(leases.c.run_id == bindparam("b_run"), leases.c.fence == bindparam("b_fence"))
_set_progress = (
    update(leases)
    .where(_guard)
    .values(
        processed=bindparam("b_processed"),
        total=bindparam("b_total"),
        failed=bindparam("b_failed"),
        skipped=bindparam("b_skipped"),
        message=bindparam("b_message"),
        progress_at=bindparam("b_at"),
        progress_gap=bindparam("b_gap"),
        revision=leases.c.revision + 1,
    )
)
_set_log_bytes = update(leases).where(_guard).values(log_bytes=bindparam("b_bytes"))


def _progress_row(item: Report, now: int) -> dict[str, Any]:
    progress = item.progress or Progress()
    return {
        "b_run": item.run_id,
        "b_fence": item.fence,
        "b_processed": progress.processed,
        "b_total": progress.total,
        "b_failed": progress.failed,
        "b_skipped": progress.skipped,
        "b_message": progress.message,
        "b_at": now,
        "b_gap": item.progress_gap_us,
    }


@verb(Rank.REPORT)
def save_checkpoint(tx: Tx, items: Sequence[SaveCheckpoint]) -> Sequence[JobdeckError | None]:
    """Store state for a later attempt; StaleLease where the run belongs to another worker by now."""
    current = held_fences(tx, [item.run_id for item in items])
    latest = {item.run_id: item for item in items if current.get(item.run_id) == item.fence}
    if latest:
        tx.conn.execute(delete(checkpoints).where(checkpoints.c.run_id.in_(latest)))
        tx.conn.execute(
            insert(checkpoints),
            [
                {"run_id": item.run_id, "fence": item.fence, "state": item.state, "updated_at": tx.now}
                for item in latest.values()
            ],
        )
    return [None if current.get(item.run_id) == item.fence else stale(item.run_id) for item in items]


@verb(Rank.REPORT)
def check_lease(tx: Tx, items: Sequence[LeaseCheck]) -> Sequence[JobdeckError | None]:
    """Whether these fences are current and their leases alive; StaleLease where not."""
    query = select(leases.c.run_id, leases.c.fence).where(
        leases.c.run_id.in_({item.run_id for item in items}), leases.c.lease_until > tx.now
    )
    current = {row.run_id: row.fence for row in tx.conn.execute(query)}
    return [None if current.get(item.run_id) == item.fence else stale(item.run_id) for item in items]


def stale(run_id: UUID) -> StaleLease:
    """The error for a write by a worker that no longer holds the run."""
    return StaleLease(f"the lease on {show_id('run', run_id)} was lost; another worker may hold it, so stop")


def cancel_flags(conn: Any, worker_id: UUID) -> list[tuple[UUID, int]]:
    """Run and fence of every run of this worker that has been asked to stop."""
    query = select(leases.c.run_id, leases.c.fence).where(
        leases.c.worker_id == worker_id, leases.c.cancel_requested_at.is_not(None)
    )
    return [(row.run_id, row.fence) for row in conn.execute(query)]
