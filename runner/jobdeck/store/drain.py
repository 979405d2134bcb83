"""Whether a draining worker is done."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, or_, select

from jobdeck.store.claim import ready
from jobdeck.store.schema import leases, runs


def nothing_left(conn: Connection, now: int, job_types: tuple[str, ...], queues: tuple[str, ...]) -> bool:
    """True where no run of these types and queues (empty: all) is due or running. What is due later does not count."""
    running = select(runs.c.id).join(leases, leases.c.run_id == runs.c.id)
    in_time = or_(runs.c.expires_at.is_(None), runs.c.expires_at > now)
    due = select(runs.c.id).where(*ready(runs), runs.c.due_at <= now, in_time)
    return not any(conn.execute(_mine(query, job_types, queues)).first() for query in (running, due))


def _mine(query: Select[Any], job_types: tuple[str, ...], queues: tuple[str, ...]) -> Select[Any]:
    query = query.where(runs.c.job_type.in_(job_types)).limit(1)
    return query.where(runs.c.queue.in_(queues)) if queues else query
