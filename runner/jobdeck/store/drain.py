"""Whether a draining worker is done."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, or_, select

from jobdeck.store.control.budget import closed_windows
from jobdeck.store.control.pauses import is_paused
from jobdeck.store.control.turns import places_are_free
from jobdeck.store.lanes import is_pulled, ready
from jobdeck.store.schema import OPEN_BULK, bulk_operations, leases, runs


def nothing_left(conn: Connection, now: int, job_types: tuple[str, ...], queues: tuple[str, ...]) -> bool:
    """True where no run of these types and queues (empty: all) is due or running, and no bulk operation is open.

    What is due later, paused or outside its window does not count, nor what is in the hands of others: parked runs, and
    those of pull queues.
    """
    with_workers = leases.c.worker_id.is_not(None)
    running = select(runs.c.id).join(leases, leases.c.run_id == runs.c.id).where(with_workers)
    in_time = or_(runs.c.expires_at.is_(None), runs.c.expires_at > now)
    # What is paused, or outside its window, may stay so for days.
    due = select(runs.c.id).where(*ready(runs), runs.c.due_at <= now, in_time, ~is_paused(runs, now))
    due = due.where(~is_pulled(runs))
    if shut := closed_windows(conn, now):
        due = due.where(runs.c.gate.not_in(shut))
    # What a bulk operation still has to retry or approve is to be run too.
    bulk = select(bulk_operations.c.id).where(OPEN_BULK).limit(1)
    wanted = (_mine(running, job_types, queues), _mine(due, job_types, queues), bulk)
    return not any(conn.execute(query).first() for query in wanted) and not places_are_free(conn)


def _mine(query: Select[Any], job_types: tuple[str, ...], queues: tuple[str, ...]) -> Select[Any]:
    query = query.where(runs.c.job_type.in_(job_types)).limit(1)
    return query.where(runs.c.queue.in_(queues)) if queues else query
