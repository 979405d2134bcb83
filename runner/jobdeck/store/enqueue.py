"""Enqueue: runs and their first event, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Insert, literal_column

from jobdeck.clock import to_us
from jobdeck.errors import AlreadyActive, JobdeckError
from jobdeck.ids import show_id
from jobdeck.model import NewRun
from jobdeck.states import Status
from jobdeck.store.columns import word
from jobdeck.store.differences import Differences, Given
from jobdeck.store.flights import Flights
from jobdeck.store.given import GivenRows, insert_given
from jobdeck.store.schema import run_events, runs
from jobdeck.store.transaction import Hint, Rank, Tx, verb


@verb(Rank.ENQUEUE)
def enqueue(tx: Tx, items: Sequence[NewRun]) -> Sequence[UUID | JobdeckError]:
    """The id of each run, or AlreadyActive where single flight refuses it."""
    flights = Flights(tx, items)
    results: list[UUID | JobdeckError] = []
    taken: list[NewRun] = []
    for item in items:
        existing = flights.holder(item)
        if existing is not None:
            results.append(_already_active(item, existing))
            continue
        flights.take(item)
        taken.append(item)
        tx.count(item.team_id, item.job_type, None, Status.PENDING)
        results.append(item.id)
    if taken:
        # A key that another transaction is about to take is waited for: so all take theirs in one order.
        taken.sort(key=lambda item: item.flight_key or "")
        _new_runs.write(tx, [_row(item, tx.now) for item in taken])
        tx.hint(Hint.CHANGE)
        if any(_due(item, tx.now) <= tx.now for item in taken):
            tx.hint(Hint.WORK)
    return results


def _already_active(item: NewRun, existing: UUID) -> AlreadyActive:
    shown = show_id("run", existing)
    return AlreadyActive(
        f"a run of {item.job_type} is already pending or running in this project: {shown}",
        existing_run_id=shown,
    )


_COLUMNS = (
    "id", "team_id", "project_id", "status", "queue", "job_type", "priority", "due_at", "created_at",
    "max_attempts", "timeout_s", "name", "category", "trigger_type", "triggered_by", "parent_run_id",
    "flight_key", "notify", "debug_mode", "tags", "metadata", "params",
)  # fmt: skip


def _write_runs(differences: Differences, given: Given) -> list[Insert]:
    told = {"run_id": "id", "at": "created_at", "actor": "triggered_by"}
    event = {name: given.values[source] for name, source in told.items()}
    event |= {"kind": word("enqueued"), "fence": literal_column("0")}
    return [
        insert_given(differences, given, runs, dict(given.values)),
        insert_given(differences, given, run_events, event),
    ]


_new_runs = GivenRows([runs.c[name] for name in _COLUMNS], _write_runs)


def _row(item: NewRun, now: int) -> tuple[Any, ...]:
    return (
        item.id,
        item.team_id,
        item.project_id,
        Status.PENDING,
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
        item.flight_key,
        item.notify,
        item.debug_mode,
        item.tags,
        item.metadata,
        item.params,
    )


def _due(item: NewRun, now: int) -> int:
    if item.delay is not None:
        return now + int(item.delay.total_seconds() * 1_000_000)
    return now if item.due_at is None else max(to_us(item.due_at), 0)
