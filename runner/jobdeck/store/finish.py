"""The end of an attempt: by its worker (finish) or by whoever finds its lease expired (recover)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import BigInteger, Delete, Select, and_, bindparam, delete, select

from jobdeck.errors import JobdeckError
from jobdeck.states import AttemptOutcome, Status
from jobdeck.store.columns import word
from jobdeck.store.differences import Differences
from jobdeck.store.leases import Report, stale, write_reports
from jobdeck.store.locks import Locks
from jobdeck.store.schema import attempts, leases, run_events, runs
from jobdeck.store.statement import Rows, statement
from jobdeck.store.transaction import Hint, Rank, Tx, verb
from jobdeck.verdict import Ending, Facts, Verdict, decide

_RECOVER_BATCH = 500


class Finish(NamedTuple):
    """The end of an attempt, with what its reporter still held."""

    run_id: UUID
    fence: int
    ending: Ending
    last_report: Report | None = None


@dataclass(frozen=True, slots=True)
class Recover:
    """Look for expired leases; `actor` is who looks."""

    actor: str


class Ended(NamedTuple):
    """What became of the run."""

    run_id: UUID
    fence: int
    status: Status
    due_at: int


@verb(Rank.FINISH, Locks(lambda item: (item.run_id,), runs=True))
def finish(tx: Tx, items: Sequence[Finish]) -> Sequence[Ended | JobdeckError]:
    """Write outcomes, each only by the holder of the current lease; StaleLease for the others."""
    held = {row.id: row for row in _held.all(tx, {"ids": {item.run_id for item in items}})}
    valid: dict[UUID, Finish] = {}
    for item in items:
        if _is_current(held.get(item.run_id), item.fence):
            valid.setdefault(item.run_id, item)
    unsaid = [item.last_report for item in valid.values() if item.last_report is not None]
    if unsaid:
        tx.differences.lock_rows(tx.conn, leases.c.run_id, set(valid))
        write_reports(tx, unsaid)
    endings = [(_with_report(held[item.run_id], item.last_report), item.ending) for item in valid.values()]
    ended = {end.run_id: end for end in _write(tx, endings, actor="worker")}
    return [ended[item.run_id] if valid.get(item.run_id) is item else stale(item.run_id) for item in items]


def _is_current(row: Any, fence: int) -> bool:
    return row is not None and row.fence == fence


def _with_report(row: Any, report: Report | None) -> Any:
    """The row as it is once the reporter's last words are stored."""
    if report is None:
        return row
    row = row._replace(lease_log_bytes=report.log_bytes)
    return row if report.progress is None else row._replace(**asdict(report.progress))


@verb(Rank.FINISH, Locks(lambda item: ()))
def recover(tx: Tx, items: Sequence[Recover]) -> Sequence[list[Ended] | JobdeckError]:
    """Take runs whose lease has expired from workers that stopped beating; crashes count apart from failures."""
    rows = _expired.all(tx, {"now": tx.now})
    ended = _write(tx, [(row, _crash(row, tx.now)) for row in rows], actor=items[0].actor)
    return [ended if index == 0 else [] for index, _ in enumerate(items)]


def _crash(row: Any, now: int) -> Ending:
    silent = (now - row.beat_at) // 1_000_000
    words = f"worker {row.worker} stopped reporting {silent} s ago"
    if row.message:
        words += f"; last progress: {row.message}"
    return Ending(AttemptOutcome.CRASHED, error=words)


_LEASED = (
    select(
        runs.c.id,
        runs.c.team_id,
        runs.c.job_type,
        runs.c.attempt,
        runs.c.failures,
        runs.c.crash_count,
        runs.c.max_attempts,
        runs.c.revision,
        leases.c.fence,
        leases.c.worker_id,
        leases.c.worker,
        leases.c.claimed_at,
        leases.c.beat_at,
        # Of the run, whose row is locked: a cancel that committed while this waited for the lock must be seen.
        runs.c.cancel_requested_at,
        leases.c.revision.label("lease_revision"),
        leases.c.processed,
        leases.c.total,
        leases.c.failed,
        leases.c.skipped,
        leases.c.message,
        leases.c.log_bytes.label("lease_log_bytes"),
    )
    .select_from(runs.join(leases, and_(leases.c.run_id == runs.c.id, leases.c.fence == runs.c.fence)))
    .where(runs.c.status == word(Status.RUNNING))
)


@statement
def _held(differences: Differences) -> Select[Any]:
    query = _LEASED.where(differences.among(runs.c.id, "ids"))
    return differences.locked(query, by=runs.c.id, of=runs)


@statement
def _expired(differences: Differences) -> Select[Any]:
    now = bindparam("now", type_=BigInteger)
    query = _LEASED.where(leases.c.lease_until <= now).order_by(runs.c.id).limit(_RECOVER_BATCH)
    # The leases too: one that a beat is extending right now has not expired.
    return differences.unlocked_only(query, runs, leases)


def _write(tx: Tx, endings: Sequence[tuple[Any, Ending]], *, actor: str) -> list[Ended]:
    if not endings:
        return []
    judged = [(row, ending, _judge(row, ending)) for row, ending in endings]
    for row, _, verdict in judged:
        tx.count(row.team_id, row.job_type, Status.RUNNING, verdict.status)
    _closing.write(tx, [_run_row(row, ending, verdict, tx.now) for row, ending, verdict in judged])
    _attempts.write(tx, [_attempt_row(row, ending, tx.now) for row, ending, _ in judged])
    _events.write(tx, [_event_row(row, ending, verdict, actor, tx.now) for row, ending, verdict in judged])
    _ended_leases.run(tx, {"ids": [row.id for row, _ in endings]})
    tx.hint(Hint.CHANGE)
    if any(verdict.status is Status.PENDING and verdict.wait_us <= 0 for _, _, verdict in judged):
        tx.hint(Hint.WORK)
    return [Ended(row.id, row.fence, verdict.status, tx.now + verdict.wait_us) for row, _, verdict in judged]


def _judge(row: Any, ending: Ending) -> Verdict:
    requested = row.cancel_requested_at is not None
    return decide(ending, Facts(row.failures, row.crash_count, row.max_attempts, requested))


_closing = Rows(
    runs,
    (
        "id", "fence", "status", "due_at", "finished_at", "failures", "crash_count", "failure_kind", "error",
        "traceback", "result", "processed", "total", "failed", "skipped", "message", "log_bytes", "revision",
    ),
    keys=("id", "fence"),
    guard=runs.c.status == word(Status.RUNNING),
)  # fmt: skip
_attempts = Rows(
    attempts,
    (
        "run_id", "fence", "attempt", "worker_id", "worker", "started_at", "finished_at", "outcome", "error",
        "traceback",
    ),
)  # fmt: skip
_events = Rows(run_events, ("run_id", "at", "kind", "actor", "fence", "data"))


@statement
def _ended_leases(differences: Differences) -> Delete:
    mine = select(leases.c.run_id).where(differences.among(leases.c.run_id, "ids"))
    mine = differences.locked(mine, by=leases.c.run_id)
    return delete(leases).where(differences.in_query(leases.c.run_id, mine))


def _run_row(row: Any, ending: Ending, verdict: Verdict, now: int) -> tuple[Any, ...]:
    return (
        row.id,
        row.fence,
        verdict.status,
        now + verdict.wait_us,
        None if verdict.status is Status.PENDING else now,
        verdict.failures,
        verdict.crash_count,
        verdict.failure_kind,
        ending.error,
        ending.traceback,
        ending.result,
        row.processed,
        row.total,
        row.failed,
        row.skipped,
        row.message,
        row.lease_log_bytes,
        row.revision + row.lease_revision + 1,
    )


def _attempt_row(row: Any, ending: Ending, now: int) -> tuple[Any, ...]:
    told = (ending.outcome, ending.error, ending.traceback)
    return (row.id, row.fence, row.attempt, row.worker_id, row.worker, row.claimed_at, now, *told)


def _event_row(row: Any, ending: Ending, verdict: Verdict, actor: str, now: int) -> tuple[Any, ...]:
    # Numbers and words of ours alone: nothing to escape, and this is done for every attempt.
    told = f'{{"attempt":{row.attempt},"outcome":"{ending.outcome}","status":"{verdict.status}"}}'
    return (row.id, now, "attempt_ended", row.worker if actor == "worker" else actor, row.fence, told)
