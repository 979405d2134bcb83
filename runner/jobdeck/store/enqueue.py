"""Enqueue: runs and their first event, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import insert

from jobdeck.clock import to_us
from jobdeck.errors import AlreadyActive, JobdeckError
from jobdeck.ids import show_id
from jobdeck.model import NewRun
from jobdeck.states import Status
from jobdeck.store.flights import Flights
from jobdeck.store.schema import run_events, runs
from jobdeck.store.transaction import Hint, Rank, Tx, verb


@verb(Rank.ENQUEUE)
def enqueue(tx: Tx, items: Sequence[NewRun]) -> Sequence[UUID | JobdeckError]:
    """The id of each run, or AlreadyActive where single flight refuses it."""
    flights = Flights(tx, items)
    results: list[UUID | JobdeckError] = []
    rows: list[dict[str, Any]] = []
    for item in items:
        existing = flights.holder(item)
        if existing is not None:
            results.append(_already_active(item, existing))
            continue
        flights.take(item)
        rows.append(_row(item, tx.now))
        results.append(item.id)
    if rows:
        tx.conn.execute(insert(runs), rows)
        tx.conn.execute(insert(run_events), [_event(row) for row in rows])
        tx.hint(Hint.CHANGE)
        if any(row["due_at"] <= tx.now for row in rows):
            tx.hint(Hint.WORK)
    return results


def _already_active(item: NewRun, existing: UUID) -> AlreadyActive:
    shown = show_id("run", existing)
    return AlreadyActive(
        f"a run of {item.job_type} is already pending or running in this project: {shown}",
        existing_run_id=shown,
    )


def _row(item: NewRun, now: int) -> dict[str, Any]:
    return {
        "id": item.id,
        "team_id": item.team_id,
        "project_id": item.project_id,
        "status": Status.PENDING,
        "queue": item.queue,
        "job_type": item.job_type,
        "priority": item.priority,
        "due_at": _due(item, now),
        "created_at": now,
        "max_attempts": item.max_attempts,
        "timeout_s": item.timeout_s,
        "name": item.name,
        "category": item.category,
        "trigger_type": item.trigger_type,
        "triggered_by": item.triggered_by,
        "parent_run_id": item.parent_run_id,
        "flight_key": item.flight_key,
        "notify": item.notify,
        "debug_mode": item.debug_mode,
        "tags": item.tags,
        "metadata": item.metadata,
        "params": item.params,
    }


def _due(item: NewRun, now: int) -> int:
    if item.delay is not None:
        return now + int(item.delay.total_seconds() * 1_000_000)
    return now if item.due_at is None else max(to_us(item.due_at), 0)


def _event(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "run_id": row["id"],
        "at": row["created_at"],
        "kind": "enqueued",
        "actor": row["triggered_by"],
        "fence": 0,
        "data": None,
    }
