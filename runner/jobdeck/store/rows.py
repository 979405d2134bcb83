"""Rows of runs as everybody reads them: the run, its lease while it runs, and the label derived from both."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, or_, select

from jobdeck.clock import from_us
from jobdeck.model import Progress, Run
from jobdeck.states import TERMINAL, FailureKind, Status, allowed_actions, label_of
from jobdeck.store.fleet import LiveWork, live_work
from jobdeck.store.schema import leases, projects, runs, teams

# A handler that reports progress is stalled after three times its usual gap, but never before this.
_STALL_FACTOR = 3
_STALL_MIN_US = 30_000_000

_WIDE = ("params", "result", "traceback", "tags", "metadata")
_LEASED = ("processed", "total", "failed", "skipped", "message")


def select_runs(*, wide: bool = False) -> Select[Any]:
    """Runs joined with what names and moves them; `wide` brings params, result and traceback too."""
    narrow = [column for column in runs.c if wide or column.name not in _WIDE]
    return select(
        *narrow,
        teams.c.slug.label("team"),
        projects.c.slug.label("project"),
        leases.c.worker_id,
        leases.c.worker,
        leases.c.beat_at,
        leases.c.stalled,
        leases.c.claimed_at,
        leases.c.progress_at,
        leases.c.progress_gap,
        leases.c.revision.label("lease_revision"),
        leases.c.fence.label("lease_fence"),
        *(leases.c[name].label(f"lease_{name}") for name in _LEASED),
    ).select_from(
        runs.join(teams, teams.c.id == runs.c.team_id)
        .outerjoin(projects, and_(projects.c.id == runs.c.project_id, projects.c.team_id == runs.c.team_id))
        .outerjoin(leases, leases.c.run_id == runs.c.id)
    )


def to_runs(conn: Connection, rows: list[Any], now: int) -> list[Run]:
    """Rows of `select_runs` as runs. Looks at the live workers only where a run waits although it is due."""
    waiting = any(row["status"] == Status.PENDING and row["due_at"] <= now for row in rows)
    live = live_work(conn, now) if waiting else None
    return [_run(row, now, live) for row in rows]


def _run(row: Any, now: int, live: LiveWork | None) -> Run:
    status = Status(row["status"])
    leased = row["lease_fence"] is not None
    due = status is Status.PENDING and row["due_at"] <= now
    refusal = live.refusal(row["job_type"], row["queue"]) if due and live else None
    requested = row["cancel_requested_at"] is not None
    return Run(
        id=row["id"],
        team_id=row["team_id"],
        team=row["team"],
        project_id=row["project_id"],
        project=row["project"],
        job_type=row["job_type"],
        name=row["name"],
        category=row["category"],
        status=status,
        label=label_of(
            status,
            due_in_future=row["due_at"] > now,
            attempt=row["attempt"],
            cancel_requested=requested,
            stalled=leased and _is_stalled(row, now),
            held=refusal is not None,
        ),
        queue=row["queue"],
        priority=row["priority"],
        progress=_progress(row, leased),
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        failures=row["failures"],
        crash_count=row["crash_count"],
        timeout_s=row["timeout_s"],
        trigger_type=row["trigger_type"],
        triggered_by=row["triggered_by"],
        created_at=from_us(row["created_at"]),
        due_at=from_us(row["due_at"]),
        started_at=_time(row["started_at"]),
        finished_at=_time(row["finished_at"]),
        heartbeat_at=_time(row["beat_at"]),
        cancel_requested_at=_time(row["cancel_requested_at"]),
        cancel_requested_by=row["cancel_requested_by"],
        cancel_reason=row["cancel_reason"],
        failure_kind=FailureKind(row["failure_kind"]) if row["failure_kind"] else None,
        error=row["error"],
        worker_id=row["worker_id"],
        parent_run_id=row["parent_run_id"],
        notify=bool(row["notify"]),
        revision=row["revision"] + (row["lease_revision"] or 0),
        held_reason=refusal,
        params=_json(row, "params"),
        result=_json(row, "result"),
        traceback=row.get("traceback"),
        tags=_json(row, "tags") or {},
        metadata=_json(row, "metadata") or {},
        actions=allowed_actions(status, cancel_requested=requested and status not in TERMINAL),
    )


def _progress(row: Any, leased: bool) -> Progress:
    prefix = "lease_" if leased else ""
    return Progress(**{name: row[f"{prefix}{name}"] for name in _LEASED})


def _is_stalled(row: Any, now: int) -> bool:
    if row["stalled"]:
        return True
    if row["progress_at"] is None or row["progress_gap"] is None:
        return False
    return bool(now - row["progress_at"] > max(_STALL_FACTOR * row["progress_gap"], _STALL_MIN_US))


def is_stalled_clause(now: int) -> ColumnElement[bool]:
    """The label `stalled` as a condition on running runs joined with their leases."""
    silent = now - leases.c.progress_at
    too_long = and_(silent > _STALL_FACTOR * leases.c.progress_gap, silent > _STALL_MIN_US)
    return and_(runs.c.cancel_requested_at.is_(None), or_(leases.c.stalled, too_long))


def _time(value: int | None) -> Any:
    return None if value is None else from_us(value)


def _json(row: Any, name: str) -> Any:
    text = row.get(name)
    return None if text is None else json.loads(text)
