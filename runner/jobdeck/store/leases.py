"""What a worker writes while it holds runs: beats, progress, logs, checkpoints. All guarded by run and fence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, Select, Update, bindparam, case, delete, insert, select, update

from jobdeck.errors import JobdeckError, StaleLease
from jobdeck.ids import show_id
from jobdeck.model import Progress
from jobdeck.store.differences import Differences
from jobdeck.store.given import Rows
from jobdeck.store.locks import Locks
from jobdeck.store.schema import checkpoints, leases, run_logs, workers
from jobdeck.store.statement import statement
from jobdeck.store.transaction import Hint, Rank, Tx, verb

_BEFORE_ALL = -1


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
    in_time: bool = False
    """Less than a lease after the last beat that was answered, by time that nobody can set."""


class Held(NamedTuple):
    """A lease that was extended; a run that is not among the answers is lost."""

    run_id: UUID
    fence: int
    cancel_requested: bool


class LogLine(NamedTuple):
    """One entry; `at` in microseconds by the worker's clock, `fields` compact JSON."""

    at: int
    level: str
    message: str
    fields: str | None


class Report(NamedTuple):
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
    in_time: bool = False
    """See `Beat`."""


@verb(Rank.BEAT, Locks(lambda item: item.runs))
def beat(tx: Tx, items: Sequence[Beat]) -> Sequence[list[Held] | JobdeckError]:
    """Extend the leases that have not expired; for each worker the ones it still holds.

    Of a beat in time also those that seem to have expired: the database's clock has been set ahead.
    """
    # By itself an update takes its locks in the order in which it finds the rows.
    if not tx.locked:
        tx.differences.lock_rows(tx.conn, leases.c.run_id, {run_id for item in items for run_id in item.runs})
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
    bound = {"worker": item.worker_id, "ids": item.runs, "stalled": item.stalled, "now": tx.now}
    # An expired lease stays expired: somebody may be about to take the run over.
    bound["expired"] = _expired_by(tx, item)
    rows = _extend.all(tx, bound | {"until": tx.now + item.lease_us})
    return [Held(row.run_id, row.fence, row.cancel_requested_at is not None) for row in rows]


@statement
def _extend(differences: Differences) -> Update:
    now = bindparam("now", type_=BigInteger)
    stalled = bindparam("stalled", type_=Boolean)
    return (
        update(leases)
        .where(
            differences.among(leases.c.run_id, "ids"),
            leases.c.worker_id == bindparam("worker", type_=leases.c.worker_id.type),
            leases.c.lease_until > bindparam("expired", type_=BigInteger),
        )
        .values(
            lease_until=bindparam("until", type_=BigInteger),
            beat_at=now,
            stalled=stalled,
            revision=leases.c.revision + case((leases.c.stalled != stalled, 1), else_=0),
        )
        .returning(leases.c.run_id, leases.c.fence, leases.c.cancel_requested_at)
    )


@verb(Rank.REPORT, Locks(lambda item: (item.run_id,)))
def report(tx: Tx, items: Sequence[Report]) -> Sequence[JobdeckError | None]:
    """Progress and log lines of running attempts; StaleLease for those that are not the current ones."""
    current = held_fences(tx, [item.run_id for item in items])
    valid = [item for item in items if current.get(item.run_id) == item.fence]
    write_reports(tx, valid)
    return [None if current.get(item.run_id) == item.fence else stale(item.run_id) for item in items]


def held_fences(tx: Tx, run_ids: Iterable[UUID]) -> dict[UUID, int]:
    """The current fences of running runs; the leases stay as they are until the transaction ends."""
    # A lease that has come since all were locked is of an attempt that nobody here can know of.
    fences = _free_fences if tx.locked else _fences
    return {row.run_id: row.fence for row in fences.all(tx, {"ids": set(run_ids)})}


@statement
def _fences(differences: Differences) -> Select[Any]:
    return differences.locked(_fences_of(differences), by=leases.c.run_id)


@statement
def _free_fences(differences: Differences) -> Select[Any]:
    return differences.unlocked_only(_fences_of(differences))


def _fences_of(differences: Differences) -> Select[Any]:
    return select(leases.c.run_id, leases.c.fence).where(differences.among(leases.c.run_id, "ids"))


_log_lines = Rows(run_logs, ("run_id", "attempt", "at", "level", "message", "fields"))
_log_sizes = Rows(leases, ("run_id", "log_bytes"), keys=("run_id",))
_progress = Rows(
    leases,
    (
        "run_id", "processed", "total", "failed", "skipped", "message", "progress_at", "progress_gap", "revision",
    ),
    keys=("run_id",),
    adds="revision",
)  # fmt: skip


def write_reports(tx: Tx, items: Sequence[Report]) -> None:
    """Store reports whose fences have been checked in this transaction."""
    moved = {item.run_id: item for item in items if item.progress is not None}
    _progress.write(tx, [_progress_row(item, tx.now) for item in moved.values()])
    _log_lines.write(
        tx,
        [
            (item.run_id, item.attempt, line.at, line.level, line.message, line.fields)
            for item in items
            for line in item.lines
        ],
    )
    spoken = {item.run_id: item.log_bytes for item in items if item.lines}
    _log_sizes.write(tx, list(spoken.items()))
    if moved or spoken:
        tx.hint(Hint.CHANGE)


def _progress_row(item: Report, now: int) -> tuple[Any, ...]:
    progress = item.progress or Progress()
    told = (progress.processed, progress.total, progress.failed, progress.skipped, progress.message)
    return (item.run_id, *told, now, item.progress_gap_us, 1)


@verb(Rank.REPORT, Locks(lambda item: (item.run_id,)))
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
    query = select(leases.c.run_id, leases.c.fence, leases.c.lease_until).where(
        leases.c.run_id.in_({item.run_id for item in items})
    )
    current = {(row.run_id, row.fence): row.lease_until for row in tx.conn.execute(query)}

    def alive(item: LeaseCheck) -> bool:
        until = current.get((item.run_id, item.fence))
        return until is not None and until > _expired_by(tx, item)

    return [None if alive(item) else stale(item.run_id) for item in items]


def _expired_by(tx: Tx, item: Beat | LeaseCheck) -> int:
    """Leases that ended by then have expired: none, where the worker is in time."""
    return _BEFORE_ALL if item.in_time else tx.now


def stale(run_id: UUID) -> StaleLease:
    """The error for a write by a worker that no longer holds the run."""
    return StaleLease(f"the lease on {show_id('run', run_id)} was lost; another worker may hold it, so stop")


def cancel_flags(conn: Any, worker_id: UUID) -> list[tuple[UUID, int]]:
    """Run and fence of every run of this worker that has been asked to stop."""
    query = select(leases.c.run_id, leases.c.fence).where(
        leases.c.worker_id == worker_id, leases.c.cancel_requested_at.is_not(None)
    )
    return [(row.run_id, row.fence) for row in conn.execute(query)]
