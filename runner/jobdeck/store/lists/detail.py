"""One run as a whole: its record, attempts, events and log."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, exists, select

from jobdeck.clock import from_us
from jobdeck.model import Attempt, LogEntry, Run, RunEvent, TeamScope, Wait
from jobdeck.spans import TOTAL, unpacked
from jobdeck.states import Status
from jobdeck.store.differences import Differences
from jobdeck.store.jobs.chains import kin_of
from jobdeck.store.jobs.definitions import slug_of
from jobdeck.store.lists.rows import select_runs, to_runs, wide_facts
from jobdeck.store.schema import attempts, leases, run_events, run_logs, runs
from jobdeck.store.waiting import waits_of


def show(conn: Connection, now: int, scope: TeamScope, run_id: UUID) -> Run | None:
    """The run with params, result, traceback and attempts; None where the team has no such run."""
    query = select_runs(wide=True).where(runs.c.team_id == scope.team_id, runs.c.id == run_id)
    row = conn.execute(query).one_or_none()
    if row is None:
        return None
    (run,) = to_runs(conn, scope, [row], now)
    job = None if row.job_id is None else slug_of(conn, row.job_id)
    waits = tuple(Wait(*wait) for wait in waits_of(conn, run.id))
    parents, children = ((), ()) if row.job_id is None else kin_of(conn, run.id)
    found = replace(run, **wide_facts(row), attempts=tuple(_attempts(conn, run)), waits=waits, job=job)
    return replace(found, parents=parents, children=children)


def _attempts(conn: Connection, run: Run) -> list[Attempt]:
    ended = select(attempts).where(attempts.c.run_id == run.id).order_by(attempts.c.fence)
    found = [_attempt(row) for row in conn.execute(ended).mappings()]
    if run.status is Status.RUNNING:
        current = conn.execute(select(leases).where(leases.c.run_id == run.id)).mappings().one_or_none()
        if current is not None:
            found.append(_current(current, run.attempt))
    return found


def _attempt(row: Any) -> Attempt:
    return Attempt(
        attempt=row["attempt"],
        fence=row["fence"],
        worker_id=row["worker_id"],
        worker=row["worker"],
        started_at=from_us(row["started_at"]),
        finished_at=from_us(row["finished_at"]),
        outcome=row["outcome"],
        error=row["error"],
        traceback=row["traceback"],
        trace={} if row["trace"] is None else _trace(row),
    )


def _trace(row: Any) -> dict[str, timedelta]:
    spans = unpacked(row["trace"])
    if spans:
        # By the database's clock alone: from when it was due to when its outcome was stored.
        spans[TOTAL] = spans["queue_wait"] + row["finished_at"] - row["started_at"]
    return {name: timedelta(microseconds=span) for name, span in spans.items()}


def _current(row: Any, ordinal: int) -> Attempt:
    return Attempt(
        attempt=ordinal,
        fence=row["fence"],
        worker_id=row["worker_id"],
        worker=row["worker"],
        started_at=from_us(row["claimed_at"]),
        finished_at=None,
        outcome=None,
        error=None,
        traceback=None,
    )


def events(conn: Connection, scope: TeamScope, run_id: UUID) -> list[RunEvent]:
    """The history of the run, oldest first; nothing where the team has no such run."""
    mine = exists().where(runs.c.team_id == scope.team_id, runs.c.id == run_id)
    query = select(run_events).where(mine, run_events.c.run_id == run_id).order_by(run_events.c.id)
    return [
        RunEvent(from_us(row.at), row.kind, row.actor, json.loads(row.data) if row.data else {})
        for row in conn.execute(query)
    ]


def logs(
    conn: Connection,
    differences: Differences,
    scope: TeamScope,
    run_id: UUID,
    *,
    after: int = 0,
    limit: int = 1_000,
    newest: bool = False,
) -> list[LogEntry]:
    """Entries of the run's log after the entry `after`, oldest first; with `newest` the last ones instead."""
    mine = exists().where(runs.c.team_id == scope.team_id, runs.c.id == run_id)
    index = (run_logs.c.run_id, run_logs.c.id)
    order = [column.desc() for column in index] if newest else index
    query = _ENTRIES.where(mine, differences.after(*index, run_id, after)).order_by(*order)
    found = [_entry(*row) for row in conn.execute(query.limit(limit))]
    return found[::-1] if newest else found


_ENTRIES: Final = select(
    *(run_logs.c[name] for name in ("id", "at", "level", "message", "attempt", "fields"))
)


def _entry(id_: int, at: int, level: str, message: str, attempt: int, fields: str | None) -> LogEntry:
    return LogEntry(id_, from_us(at), level, message, attempt, json.loads(fields) if fields else {})
