"""The end of an attempt: by its worker (finish) or by whoever finds its lease expired (recover)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Select, and_, bindparam, delete, insert, select, update

from jobdeck.errors import JobdeckError
from jobdeck.states import AttemptOutcome, Status
from jobdeck.store.leases import Report, stale, write_reports
from jobdeck.store.schema import attempts, leases, run_events, runs
from jobdeck.store.transaction import Hint, Rank, Tx, verb
from jobdeck.verdict import Ending, Facts, Verdict, decide

_RECOVER_BATCH = 500


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of an attempt, with what its reporter still held."""

    run_id: UUID
    fence: int
    ending: Ending
    last_report: Report | None = None


@dataclass(frozen=True, slots=True)
class Recover:
    """Look for expired leases; `actor` is who looks."""

    actor: str


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of the run."""

    run_id: UUID
    fence: int
    status: Status
    due_at: int


@verb(Rank.FINISH)
def finish(tx: Tx, items: Sequence[Finish]) -> Sequence[Ended | JobdeckError]:
    """Write outcomes, each only by the holder of the current lease; StaleLease for the others."""
    held = {row["id"]: row for row in tx.conn.execute(_held(tx, [item.run_id for item in items])).mappings()}
    valid = [item for item in items if item.run_id in held and held[item.run_id]["fence"] == item.fence]
    write_reports(tx, [item.last_report for item in valid if item.last_report is not None])
    progress = {item.run_id: item.last_report.progress for item in valid if item.last_report is not None}
    ended = {}
    endings = []
    for item in valid:
        row = dict(held[item.run_id])
        if (last := progress.get(item.run_id)) is not None:
            row |= {"processed": last.processed, "total": last.total, "failed": last.failed}
            row |= {"skipped": last.skipped, "message": last.message}
        if item.last_report is not None:
            row["lease_log_bytes"] = item.last_report.log_bytes
        endings.append((row, item.ending))
    for end in _write(tx, endings, actor="worker"):
        ended[end.run_id] = end
    return [
        ended[item.run_id]
        if item.run_id in ended and ended[item.run_id].fence == item.fence
        else stale(item.run_id)
        for item in items
    ]


@verb(Rank.FINISH)
def recover(tx: Tx, items: Sequence[Recover]) -> Sequence[list[Ended] | JobdeckError]:
    """Take runs whose lease has expired from workers that stopped beating; crashes count apart from failures."""
    query = _LEASED.where(leases.c.lease_until <= tx.now).order_by(runs.c.id).limit(_RECOVER_BATCH)
    # The leases too: one that a beat is extending right now has not expired.
    query = tx.differences.unlocked_only(query, runs, leases)
    rows = [dict(row) for row in tx.conn.execute(query).mappings()]
    ended = _write(tx, [(row, _crash(row, tx.now)) for row in rows], actor=items[0].actor) if rows else []
    return [ended if index == 0 else [] for index, _ in enumerate(items)]


def _crash(row: Mapping[str, Any], now: int) -> Ending:
    silent = (now - row["beat_at"]) // 1_000_000
    words = f"worker {row['worker']} stopped reporting {silent} s ago"
    if row["message"]:
        words += f"; last progress: {row['message']}"
    return Ending(AttemptOutcome.CRASHED, error=words)


_LEASED = (
    select(
        runs.c.id,
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
    .where(runs.c.status == Status.RUNNING)
)


def _held(tx: Tx, run_ids: Sequence[UUID]) -> Select[Any]:
    # Rows are locked in the order of their ids everywhere, so that two transactions never wait for each other.
    return tx.differences.locked(_LEASED.where(runs.c.id.in_(set(run_ids))).order_by(runs.c.id), of=runs)


def _write(tx: Tx, endings: Sequence[tuple[Mapping[str, Any], Ending]], *, actor: str) -> list[Ended]:
    if not endings:
        return []
    judged = [(row, ending, _judge(row, ending)) for row, ending in endings]
    tx.conn.execute(_close, [_run_row(row, ending, verdict, tx.now) for row, ending, verdict in judged])
    tx.conn.execute(insert(attempts), [_attempt_row(row, ending, tx.now) for row, ending, _ in judged])
    tx.conn.execute(
        insert(run_events),
        [_event_row(row, ending, verdict, actor, tx.now) for row, ending, verdict in judged],
    )
    tx.conn.execute(delete(leases).where(leases.c.run_id.in_([row["id"] for row, _ in endings])))
    tx.hint(Hint.CHANGE)
    if any(verdict.status is Status.PENDING and verdict.wait_us <= 0 for _, _, verdict in judged):
        tx.hint(Hint.WORK)
    return [
        Ended(row["id"], row["fence"], verdict.status, tx.now + verdict.wait_us) for row, _, verdict in judged
    ]


def _judge(row: Mapping[str, Any], ending: Ending) -> Verdict:
    requested = row["cancel_requested_at"] is not None
    return decide(ending, Facts(row["failures"], row["crash_count"], row["max_attempts"], requested))


_close = (
    update(runs)
    .where(runs.c.id == bindparam("b_id"), runs.c.fence == bindparam("b_fence"), runs.c.status == Status.RUNNING)
    .values(
        {
            name: bindparam(f"b_{name}")
            for name in (
                "status", "due_at", "finished_at", "failures", "crash_count", "failure_kind", "error", "traceback",
                "result", "processed", "total", "failed", "skipped", "message", "log_bytes", "revision",
            )
        }
    )
)  # fmt: skip


def _run_row(row: Mapping[str, Any], ending: Ending, verdict: Verdict, now: int) -> dict[str, Any]:
    again = verdict.status is Status.PENDING
    return {
        "b_id": row["id"],
        "b_fence": row["fence"],
        "b_status": verdict.status,
        "b_due_at": now + verdict.wait_us,
        "b_finished_at": None if again else now,
        "b_failures": verdict.failures,
        "b_crash_count": verdict.crash_count,
        "b_failure_kind": verdict.failure_kind,
        "b_error": ending.error,
        "b_traceback": ending.traceback,
        "b_result": ending.result,
        "b_processed": row["processed"],
        "b_total": row["total"],
        "b_failed": row["failed"],
        "b_skipped": row["skipped"],
        "b_message": row["message"],
        "b_log_bytes": row["lease_log_bytes"],
        "b_revision": row["revision"] + row["lease_revision"] + 1,
    }


def _attempt_row(row: Mapping[str, Any], ending: Ending, now: int) -> dict[str, Any]:
    outcome = ending.outcome
    return {
        "run_id": row["id"],
        "fence": row["fence"],
        "attempt": row["attempt"],
        "worker_id": row["worker_id"],
        "worker": row["worker"],
        "started_at": row["claimed_at"],
        "finished_at": now,
        "outcome": outcome,
        "error": ending.error,
        "traceback": ending.traceback,
    }


def _event_row(
    row: Mapping[str, Any], ending: Ending, verdict: Verdict, actor: str, now: int
) -> dict[str, Any]:
    facts = {"attempt": row["attempt"], "outcome": ending.outcome, "status": verdict.status}
    return {
        "run_id": row["id"],
        "at": now,
        "kind": "attempt_ended",
        "actor": row["worker"] if actor == "worker" else actor,
        "fence": row["fence"],
        "data": json.dumps(facts, separators=(",", ":")),
    }
