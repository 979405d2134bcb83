"""Enqueue: runs and their first event, in one transaction, unless another run stands for them or in their way."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Insert, literal_column

from jobdeck.clock import to_us
from jobdeck.errors import AlreadyActive, JobdeckError
from jobdeck.ids import show_id
from jobdeck.model import JobRef, NewRun, RunExtras
from jobdeck.states import OnConflict, Status
from jobdeck.store.columns import word
from jobdeck.store.control.gates import GatesOfRuns
from jobdeck.store.differences import Differences, Given
from jobdeck.store.given import GivenRows, insert_given
from jobdeck.store.holders import Holder, Holders
from jobdeck.store.jobs.states import JobStates
from jobdeck.store.locks import Locks
from jobdeck.store.schema import run_events, runs
from jobdeck.store.succession import make_way
from jobdeck.store.timed_keys import TimedKeys
from jobdeck.store.transaction import Hint, Rank, Tx, verb
from jobdeck.store.waiting import Wish, check_waits, store_waits

_NO_EXTRAS: Final = RunExtras()
_STAND_IN: Final = (OnConflict.REJECT, OnConflict.RETURN_EXISTING)
"""What leaves the run that is there alone."""


def _waited_for(item: NewRun) -> Sequence[UUID]:
    return () if item.extras is None else [on_id for on_id, _ in item.extras.after]


@verb(Rank.ENQUEUE, Locks(_waited_for, runs=True, seldom=True))
def enqueue(tx: Tx, items: Sequence[NewRun]) -> Sequence[UUID | JobdeckError]:
    """The id of each run; that of another run where one stands for it already.

    AlreadyActive where one is in its way, IdempotencyMismatch, JobDisabled, and NotFound or Conflict for runs to wait
    for.
    """
    return _Batch(tx, items).store()


class _Batch:
    def __init__(self, tx: Tx, items: Sequence[NewRun]) -> None:
        self._tx = tx
        self._items = items
        # Before any key is taken, as by those who change a run; each item alone would lock them in an order of its own.
        tx.differences.lock_rows(tx.conn, runs.c.id, {on_id for item in items for on_id in _waited_for(item)})
        self._holders = Holders(tx, items)
        self._keys = TimedKeys(tx, [item for item in items if item.extras is not None])
        self._jobs = JobStates(tx, [item.extras.job for item in items if item.extras and item.extras.job])
        self._gates = GatesOfRuns(tx, [item for item in items if item.extras is not None])
        self._taken: list[NewRun] = []
        self._places: dict[UUID, tuple[int, bool]] = {}
        """By how much a run is blocked, and whether it is behind another one; of those that are."""

    def store(self) -> list[UUID | JobdeckError]:
        results: list[UUID | JobdeckError] = []
        for item in self._items:
            if item.flight_key is None and item.extras is None:
                self._taken.append(item)
                results.append(item.id)
                continue
            try:
                results.append(self._place(item))
            except JobdeckError as error:
                results.append(error)
        self._write()
        return results

    def _place(self, item: NewRun) -> UUID:
        extras = item.extras or _NO_EXTRAS
        if extras.job is not None:
            self._jobs.check(item.team_id, extras.job)
        standing = self._keys.run_of(item)
        if standing is not None:
            return _stand_in(item, standing, extras.on_conflict or OnConflict.RETURN_EXISTING)
        held, flights = self._holders.of_dedupe_key(item), self._holders.in_flight(item)
        for holders, usual in ((held, OnConflict.RETURN_EXISTING), (flights, OnConflict.REJECT)):
            mode = extras.on_conflict or usual
            if holders and (mode in _STAND_IN or _elsewhere(item, flights)):
                return _stand_in(item, holders[0].id, mode)
        holders = [*held, *flights]
        if holders and extras.after:
            self._write()
            try:
                # Whom it would wait for may be among those that end for it, and whoever is to be waited for may be
                # wrong: then nobody ends.
                with self._tx.attempt():
                    self._take_place(item, holders, extras)
            except JobdeckError:
                self._holders = Holders(self._tx, self._items)
                raise
        else:
            self._take_place(item, holders, extras)
        self._holders.take(item)
        self._keys.take(item)
        self._taken.append(item)
        return item.id

    def _take_place(self, item: NewRun, holders: Sequence[Holder], extras: RunExtras) -> None:
        behind = self._succeed(item, holders, extras)
        wishes = check_waits(self._tx, item.team_id, extras.after) if extras.after else []
        self._wait(item, [*wishes, *behind], behind=bool(behind))

    def _succeed(self, item: NewRun, holders: Sequence[Holder], extras: RunExtras) -> list[Wish]:
        """Make way for a run where others hold its key: what it has to wait for."""
        if not holders:
            return []
        # One of them may have come with this very batch.
        self._write()
        found = make_way(self._tx, item, {holder.id for holder in holders}, extras.on_conflict)
        for run_id in found.ended:
            self._holders.forget(run_id)
        return found.wishes

    def _wait(self, item: NewRun, wishes: Sequence[Wish], *, behind: bool) -> None:
        blocked = store_waits(self._tx, item.id, wishes)
        if blocked or behind:
            self._places[item.id] = (blocked, behind)

    def _write(self) -> None:
        """Store what was taken."""
        if not self._taken:
            return
        tx, taken = self._tx, self._taken
        # A key that another transaction is about to take is waited for: so all take theirs in one order.
        taken.sort(key=lambda item: item.flight_key or "")
        plain = [item for item in taken if item.extras is None and item.id not in self._places]
        _plain_runs.write(tx, [_row(item, tx.now) for item in plain])
        if len(plain) < len(taken):
            full = [item for item in taken if item.extras is not None or item.id in self._places]
            _full_runs.write(
                tx,
                [
                    (
                        *_full_row(item, tx.now, *self._places.get(item.id, (0, False))),
                        self._gates.gate_of(item),
                    )
                    for item in full
                ],
            )
        self._keys.write()
        for item in taken:
            tx.count(item.team_id, item.job_type, None, _status(item))
        tx.hint(Hint.CHANGE)
        if any(_due(item, tx.now) <= tx.now for item in taken):
            tx.hint(Hint.WORK)
        self._taken = []


def _elsewhere(item: NewRun, flights: Sequence[Holder]) -> bool:
    """Whether some of them hold a narrower or wider key: who would follow whom is not to be said then."""
    return any(holder.key[1] != item.flight_key for holder in flights)


def _stand_in(item: NewRun, existing: UUID, mode: OnConflict) -> UUID:
    if mode is OnConflict.RETURN_EXISTING:
        return existing
    shown = show_id("run", existing)
    raise AlreadyActive(
        f"a run of {item.job_type} is already pending or running in this project: {shown}",
        existing_run_id=shown,
    )


def _status(item: NewRun) -> Status:
    needs_approval = item.extras is not None and item.extras.requires_approval
    return Status.AWAITING_APPROVAL if needs_approval else Status.PENDING


_PLAIN = (
    "id", "team_id", "project_id", "status", "queue", "job_type", "priority", "due_at", "created_at",
    "max_attempts", "timeout_s", "name", "category", "trigger_type", "triggered_by", "parent_run_id",
    "lineage_depth", "flight_key", "notify", "debug_mode", "tags", "metadata", "params",
)  # fmt: skip
_EXTRA = (
    "blocked", "behind", "expires_at", "requires_approval", "idempotency_key", "dedupe_key", "dedupe_until",
    "continuation_of", "backoff", "job_id", "job_version", "environment", "overrides",
    "schedule_id", "fire_at", "concurrency_key", "callback_url", "announces", "batch_id", "gate",
)  # fmt: skip


def _write_runs(differences: Differences, given: Given) -> list[Insert]:
    told = {"run_id": "id", "at": "created_at", "actor": "triggered_by"}
    event = {name: given.values[source] for name, source in told.items()}
    event |= {"kind": word("enqueued"), "fence": literal_column("0")}
    return [
        insert_given(differences, given, runs, dict(given.values)),
        insert_given(differences, given, run_events, event),
    ]


_plain_runs = GivenRows([runs.c[name] for name in _PLAIN], _write_runs)
_full_runs = GivenRows([runs.c[name] for name in (*_PLAIN, *_EXTRA)], _write_runs)


def _row(item: NewRun, now: int) -> tuple[Any, ...]:
    return (
        item.id,
        item.team_id,
        item.project_id,
        _status(item),
        item.queue,
        item.job_type,
        item.priority,
        _due(item, now),
        now,
        item.max_attempts,
        item.timeout_s,
        item.name,
        item.category,
        item.trigger_type,
        item.triggered_by,
        item.parent_run_id,
        item.lineage_depth,
        item.flight_key,
        item.notify,
        item.debug_mode,
        item.tags,
        item.metadata,
        item.params,
    )


def _full_row(item: NewRun, now: int, blocked: int, behind: bool) -> tuple[Any, ...]:
    extras = item.extras or _NO_EXTRAS
    return (
        *_row(item, now),
        blocked,
        behind,
        None if extras.ttl is None else now + _us(extras.ttl),
        extras.requires_approval,
        extras.idempotency_key,
        extras.dedupe_key,
        None if extras.dedupe_window is None else now + _us(extras.dedupe_window),
        extras.continuation_of,
        extras.backoff,
        *_of_job(extras.job),
        extras.concurrency_key,
        extras.callback_url,
        extras.announces,
        extras.batch_id,
    )


def _of_job(job: JobRef | None) -> tuple[Any, ...]:
    if job is None:
        return (None,) * 6
    fire_at = None if job.fire_at is None else to_us(job.fire_at)
    return (job.id, job.version, job.environment, job.overrides, job.schedule_id, fire_at)


def _us(span: timedelta) -> int:
    return int(span.total_seconds() * 1_000_000)


def _due(item: NewRun, now: int) -> int:
    if item.delay is not None:
        return now + _us(item.delay)
    return now if item.due_at is None else max(to_us(item.due_at), 0)
