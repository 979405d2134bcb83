"""The end of an attempt: by its worker (finish) or by whoever finds its lease expired (recover)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Insert,
    Select,
    Update,
    and_,
    bindparam,
    delete,
    func,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from jobdeck.errors import JobdeckError
from jobdeck.states import TERMINAL, AttemptOutcome, Status
from jobdeck.store.columns import word
from jobdeck.store.control.turns import give_places
from jobdeck.store.differences import Change, Differences, Given, LockedRows
from jobdeck.store.failures import concerns_all
from jobdeck.store.given import GivenRows, insert_given
from jobdeck.store.leases import Report, stale, write_reports
from jobdeck.store.locks import Locks
from jobdeck.store.outbox.announce import announce
from jobdeck.store.quarantine import put_away
from jobdeck.store.schema import attempts, leases, run_events, runs
from jobdeck.store.statement import statement
from jobdeck.store.tokens.held import LEASE_FACTS, belongs_to_others, park, unacked
from jobdeck.store.transaction import Hint, JobEnd, Rank, Tx, verb
from jobdeck.store.waiting import let_go
from jobdeck.verdict import Ending, Facts, Verdict, decide

_RECOVER_BATCH = 500
# Microseconds; longer than any lease.
_FOR_EVER = 2**62


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
    expired_by: int | None = None
    """By the database's clock, in microseconds: what seems to have expired since is left alone; None: now."""
    steady_us: int | None = None
    """For how long that clock is known not to have been set ahead, by one that nobody can set: a worker whose lease is
    longer has had no time to beat. None: there is no reason to doubt it."""


class Ended(NamedTuple):
    """What became of the run."""

    run_id: UUID
    fence: int
    status: Status
    due_at: int


@verb(Rank.FINISH, Locks(lambda item: (item.run_id,), runs=True))
def finish(tx: Tx, items: Sequence[Finish]) -> Sequence[Ended | JobdeckError]:
    """Write outcomes, each only by the holder of the current lease; StaleLease for the others."""
    held = {row.id: row for row in _held.all(tx, {"ids": [item.run_id for item in items]})}
    valid: list[tuple[Any, Finish]] = []
    refused: dict[int, JobdeckError] = {}
    for index, item in enumerate(items):
        run = held.get(item.run_id)
        if run is None or run.fence != item.fence or belongs_to_others(run, item.ending):
            refused[index] = stale(item.run_id)
        else:
            # An attempt ends once.
            held[item.run_id] = None
            valid.append((run, item))
    if unsaid := [item.last_report for _, item in valid if item.last_report is not None]:
        tx.differences.lock_rows(tx.conn, leases.c.run_id, [item.run_id for _, item in valid])
        write_reports(tx, unsaid)
    ended = iter(_end_or_park(tx, [(run, item.ending) for run, item in valid]))
    return [refused[index] if index in refused else next(ended) for index, _ in enumerate(items)]


def _end_or_park(tx: Tx, endings: Sequence[tuple[Any, Ending]]) -> list[Ended]:
    parked = {run.id: run for run, ending in endings if ending.parking and run.cancel_requested_at is None}
    if not parked:
        return write_ends(tx, endings)
    untils = iter(park(tx, [each for each in endings if each[0].id in parked]))
    ended = iter(write_ends(tx, [each for each in endings if each[0].id not in parked]))
    return [
        Ended(run.id, run.fence, Status.RUNNING, next(untils)) if run.id in parked else next(ended)
        for run, _ in endings
    ]


@verb(Rank.FINISH, Locks(lambda item: ()))
def recover(tx: Tx, items: Sequence[Recover]) -> Sequence[list[Ended] | JobdeckError]:
    """Take runs whose lease has expired from workers that stopped beating; crashes count apart from failures.

    And from those who have a token and have said nothing in time.
    """
    return [_recover(tx, item) for item in items]


def _recover(tx: Tx, item: Recover) -> list[Ended]:
    now = tx.now if item.expired_by is None else min(tx.now, item.expired_by)
    steady = _FOR_EVER if item.steady_us is None else item.steady_us
    rows = _expired.all(tx, {"now": now, "steady": steady})
    return end_each(tx, rows, lambda row: _crash(row, tx.now), item.actor)


def interrupt_all(tx: Tx, words: str, actor: str) -> int:
    """End every attempt that is under way; its run is to be taken again, or has ended where a cancel was asked for."""
    rows = tx.conn.execute(leased()).all()
    write_ends(tx, [(row, Ending(AttemptOutcome.INTERRUPTED, error=words)) for row in rows], actor=actor)
    return len(rows)


def end_each(tx: Tx, rows: Sequence[Any], end: Callable[[Any], Ending], actor: str) -> list[Ended]:
    """Write the ends of these attempts; a run that cannot be ended so is put away, and keeps no other one from it."""
    try:
        with tx.attempt():
            return write_ends(tx, [(row, end(row)) for row in rows], actor=actor)
    except Exception as error:
        if concerns_all(error):
            raise
    ended: list[Ended] = []
    for row in rows:
        try:
            with tx.attempt():
                ended += write_ends(tx, [(row, end(row))], actor=actor)
        except IntegrityError:
            continue
        except Exception as error:
            if concerns_all(error):
                raise
            if put_away(tx, actor, row.id, error, "its attempt cannot be ended"):
                ended.append(Ended(row.id, row.fence, Status.FAILED, tx.now))
    return ended


def _crash(row: Any, now: int) -> Ending:
    if row.worker_id is None:
        return unacked(row)
    silent = (now - row.beat_at) // 1_000_000
    words = f"worker {row.worker} stopped reporting {silent} s ago"
    if row.message:
        words += f"; last progress: {row.message}"
    return Ending(AttemptOutcome.CRASHED, error=words)


_FACTS = (
    runs.c.id,
    runs.c.team_id,
    runs.c.job_type,
    runs.c.attempt,
    runs.c.failures,
    runs.c.crash_count,
    runs.c.max_attempts,
    # Of the run, whose row is locked: a cancel that committed while this waited for the lock must be seen.
    runs.c.cancel_requested_at,
    runs.c.awaited,
    runs.c.gate,
    runs.c.announces,
    runs.c.job_id,
    leases.c.fence,
    leases.c.worker,
)


def leased(*columns: ColumnElement[Any]) -> Select[Any]:
    """Running runs with the leases that are theirs, and what `write_ends` has to know of both."""
    return (
        select(*_FACTS, *columns)
        .select_from(runs.join(leases, and_(leases.c.run_id == runs.c.id, leases.c.fence == runs.c.fence)))
        .where(runs.c.status == word(Status.RUNNING))
    )


@statement
def _held(differences: Differences) -> Select[Any]:
    query = leased(leases.c.token_hash).where(differences.among(runs.c.id, "ids"))
    return differences.locked(query, by=runs.c.id, of=(runs,))


@statement
def _expired(differences: Differences) -> Select[Any]:
    now = bindparam("now", type_=BigInteger)
    steady = bindparam("steady", type_=BigInteger)
    # Who has a token cannot beat: its time is over whatever was done to the clock.
    over = or_(leases.c.worker_id.is_(None), leases.c.lease_until - leases.c.beat_at <= steady)
    query = leased(*LEASE_FACTS, leases.c.message).where(leases.c.lease_until <= now, over)
    # The leases too: one that a beat is extending right now has not expired.
    return differences.unlocked_only(query.order_by(runs.c.id).limit(_RECOVER_BATCH), runs, leases)


def write_ends(tx: Tx, endings: Sequence[tuple[Any, Ending]], *, actor: str = "") -> list[Ended]:
    """Write the ends of these attempts, told by `actor`, or by their workers themselves. Rows of `leased`, locked."""
    if not endings:
        return []
    rows, ended, awaited, announced = [], [], [], []
    for run, ending in endings:
        verdict = decide(ending, _facts(run))
        tx.count(run.team_id, run.job_type, Status.RUNNING, verdict.status)
        rows.append(_row(run, ending, verdict, actor or run.worker, tx.now))
        ended.append(Ended(run.id, run.fence, verdict.status, tx.now + verdict.wait_us))
        if run.awaited and verdict.status in TERMINAL:
            awaited.append((run.id, verdict.status))
        if run.announces and verdict.status in TERMINAL:
            announced.append(run.id)
        if run.job_id is not None and verdict.status in TERMINAL:
            tx.ends.append(JobEnd(run.id, run.job_id, verdict.status))
    _endings.write(tx, rows)
    announce(tx, announced)
    let_go(tx, awaited)
    gated = [run.id for run, _ in endings if run.gate]
    if gated:
        give_places(tx, gated)
    tx.hint(Hint.CHANGE)
    if any(end.status is Status.PENDING and end.due_at <= tx.now for end in ended):
        tx.hint(Hint.WORK)
    return ended


def _facts(run: Any) -> Facts:
    return Facts(run.failures, run.crash_count, run.max_attempts, run.cancel_requested_at is not None)


def _row(run: Any, ending: Ending, verdict: Verdict, actor: str, now: int) -> tuple[Any, ...]:
    # Numbers and words of ours alone: nothing to escape, and this is done for every attempt.
    told = f'{{"attempt":{run.attempt},"outcome":"{ending.outcome}","status":"{verdict.status}"}}'
    return (
        run.id,
        run.fence,
        verdict.status,
        now + verdict.wait_us if verdict.status is Status.PENDING else None,
        None if verdict.status is Status.PENDING else now,
        verdict.failures,
        verdict.crash_count,
        verdict.failure_kind,
        ending.error,
        ending.traceback,
        ending.result,
        run.attempt,
        ending.outcome,
        ending.trace,
        now,
        actor,
        told,
    )


_GIVEN = (
    leases.c.run_id,
    *(runs.c[name] for name in ("fence", "status", "due_at", "finished_at", "failures", "crash_count")),
    *(runs.c[name] for name in ("failure_kind", "error", "traceback", "result")),
    *(attempts.c[name] for name in ("attempt", "outcome", "trace")),
    *(run_events.c[name] for name in ("at", "actor", "data")),
)
# What reporters have told stands in the lease until the attempt ends.
_REPORTED = ("processed", "total", "failed", "skipped", "message", "log_bytes")


def _write_endings(differences: Differences, given: Given) -> list[Change]:
    held = differences.hold(given)
    return [
        _close_runs(given, held),
        _keep_attempts(differences, given, held),
        _tell_events(differences, given),
        delete(leases).where(differences.in_query(leases.c.run_id, held.keys)),
    ]


def _close_runs(given: Given, lease: LockedRows) -> Update:
    changed = ("status", "due_at", "finished_at", "failures", "crash_count", "failure_kind")
    values = {name: given.values[name] for name in (*changed, "error", "traceback", "result")}
    # When it was due stays to be seen of a run that has ended.
    values["due_at"] = func.coalesce(values["due_at"], runs.c.due_at)
    values |= {name: lease.rows.c[name] for name in _REPORTED}
    values["revision"] = runs.c.revision + lease.rows.c.revision + literal_column("1")
    is_run = (runs.c.id == given.values["run_id"], runs.c.fence == given.values["fence"])
    return update(runs).where(given.present, *is_run, lease.belongs).values(values)


def _keep_attempts(differences: Differences, given: Given, lease: LockedRows) -> Insert:
    names = ("run_id", "fence", "attempt", "outcome", "error", "traceback", "trace")
    values = {name: given.values[name] for name in names} | {"finished_at": given.values["at"]}
    values |= {name: lease.rows.c[name] for name in ("worker_id", "worker")}
    values["started_at"] = lease.rows.c.claimed_at
    return insert_given(differences, given, attempts, values, lease.belongs)


def _tell_events(differences: Differences, given: Given) -> Insert:
    values = {name: given.values[name] for name in ("run_id", "at", "actor", "fence", "data")}
    return insert_given(differences, given, run_events, values | {"kind": word("attempt_ended")})


_endings = GivenRows(_GIVEN, _write_endings)
