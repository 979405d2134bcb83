"""Rows of runs as everybody reads them: the run, its lease while it runs, and the label derived from both."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, exists, or_, select

from jobdeck import limits
from jobdeck.approval import request_hash
from jobdeck.clock import from_us
from jobdeck.model import Pause, Progress, Run, TeamScope
from jobdeck.states import TERMINAL, FailureKind, Status, allowed_actions, label_of
from jobdeck.store.control.pauses import list_pauses, words_of
from jobdeck.store.fleet import LiveWork, live_work
from jobdeck.store.schema import leases, projects, runs
from jobdeck.text import clean

# A handler that reports progress is stalled after three times its usual gap, but never before this.
_STALL_FACTOR = 3
_STALL_MIN_US = 30_000_000


class _RunRow(NamedTuple):
    """What is read of a run: columns of `runs`, the slug of its project, and with `lease_` columns of its lease.

    A tuple of our own, because a name is found in it ten times as fast as in SQLAlchemy's rows.
    """

    id: UUID
    project_id: UUID | None
    project: str | None
    job_type: str
    name: str
    category: str
    status: str
    queue: str
    priority: int
    processed: int
    total: int | None
    failed: int
    skipped: int
    message: str
    attempt: int
    max_attempts: int
    failures: int
    crash_count: int
    timeout_s: float
    trigger_type: str
    triggered_by: str
    created_at: int
    due_at: int
    started_at: int | None
    finished_at: int | None
    cancel_requested_at: int | None
    cancel_requested_by: str | None
    cancel_reason: str | None
    failure_kind: str | None
    error: str | None
    parent_run_id: UUID | None
    notify: bool
    revision: int
    expires_at: int | None
    blocked: int
    gate: int
    gated: bool
    requires_approval: bool
    pinned: bool
    lease_worker_id: UUID | None
    lease_beat_at: int | None
    lease_stalled: bool | None
    lease_parked: bool | None
    lease_revision: int | None
    lease_processed: int | None
    lease_total: int | None
    lease_failed: int | None
    lease_skipped: int | None
    lease_message: str | None
    lease_progress_at: int | None
    lease_progress_gap: int | None


_SELDOM: Final = (
    "approved_at", "approved_by", "idempotency_key", "dedupe_key", "concurrency_key", "continuation_of",
    "lineage_depth", "backoff", "job_id", "job_version", "schedule_id", "environment", "callback_url",
    "batch_id",
)  # fmt: skip
_WIDE: Final = (*_SELDOM, "params", "result", "traceback", "tags", "metadata")


def _column(name: str) -> ColumnElement[Any]:
    if name.startswith("lease_"):
        return leases.c[name.removeprefix("lease_")].label(name)
    return projects.c.slug.label(name) if name == "project" else runs.c[name]


# Made once: to make a query of so many columns takes longer than to answer it.
_NARROW_SELECT: Final = select(*map(_column, _RunRow._fields)).select_from(
    runs.outerjoin(
        projects, and_(projects.c.id == runs.c.project_id, projects.c.team_id == runs.c.team_id)
    ).outerjoin(leases, leases.c.run_id == runs.c.id)
)
_WIDE_SELECT: Final = _NARROW_SELECT.add_columns(*(runs.c[name] for name in _WIDE))


def select_runs(*, wide: bool = False) -> Select[Any]:
    """Runs joined with what names and moves them; `wide` brings params, result and traceback too."""
    return _WIDE_SELECT if wide else _NARROW_SELECT


def to_runs(conn: Connection, scope: TeamScope, rows: Iterable[Row[Any]], now: int) -> list[Run]:
    """Rows of `select_runs` of this team as runs, without what is wide.

    Looks at the live workers only where a run waits although it is due.
    """
    found = [_RunRow._make(row[: len(_RunRow._fields)]) for row in rows]
    waiting = any(row.status == Status.PENDING and _sound_time(row.due_at, now) is not None for row in found)
    live = live_work(conn, now, scope.team_id) if waiting else None
    pauses = list_pauses(conn, now, scope.team_id) if waiting else []
    return [_read(row, scope, now, live, pauses) for row in found]


def wide_facts(row: Row[Any]) -> dict[str, Any]:
    """What `select_runs(wide=True)` brings more, by the names it has in a run."""
    found = dict(zip(_WIDE, row[len(_RunRow._fields) :], strict=True))
    version, stored = found["job_version"], found["params"]
    if row.requires_approval:
        found["request_hash"] = request_hash(row.job_type, version, stored)
    return found | {
        "approved_at": _time(found["approved_at"]),
        "backoff": _json(found["backoff"]),
        "params": _json(stored),
        "result": _json(found["result"]),
        "tags": _object(found["tags"]),
        "metadata": _object(found["metadata"]),
    }


def _read(row: _RunRow, scope: TeamScope, now: int, live: LiveWork | None, pauses: Sequence[Pause]) -> Run:
    try:
        return _run(row, scope, now, live, pauses)
    except (TypeError, ValueError, OverflowError) as error:
        # Rows are hostile, and one that nothing of ours has written must not hide the others of a list.
        words = clean(f"the row of this run cannot be read: {error}; {row.error or ''}", limits.ERROR_BYTES)
        return _run(_repaired(row)._replace(error=words), scope, now, live, pauses)


def _repaired(row: _RunRow) -> _RunRow:
    """The row with what is no value of its column left out; an unknown status is shown as failed."""
    times = {name: _sound_time(getattr(row, name)) for name in _TIMES}
    numbers = {name: 0 for name in _NUMBERS if not isinstance(getattr(row, name), int)}
    never_null: dict[str, Any] = {name: times[name] or 0 for name in ("created_at", "due_at")}
    words = {
        "status": row.status if row.status in set(Status) else Status.FAILED,
        "failure_kind": row.failure_kind if row.failure_kind in set(FailureKind) else None,
        "job_type": str(row.job_type),
    }
    sound: dict[str, Any] = times | never_null | numbers | words
    return row._replace(**sound)


_TIMES: Final = tuple(name for name in _RunRow._fields if name.endswith("_at"))
_NUMBERS: Final = ("attempt", "max_attempts", "failures", "crash_count", "timeout_s", "revision", "blocked")
# The years that a datetime can name; beyond them are no times of ours.
_LATEST_US: Final = 253_402_300_799_000_000


def _sound_time(value: Any, latest: int = _LATEST_US) -> int | None:
    return value if isinstance(value, int) and 0 <= value <= latest else None


def _run(row: _RunRow, scope: TeamScope, now: int, live: LiveWork | None, pauses: Sequence[Pause]) -> Run:
    status = Status(row.status)
    leased = row.lease_revision is not None
    due = status is Status.PENDING and row.due_at <= now
    refusal = _refusal(row, live, pauses) if due and live else None
    requested = row.cancel_requested_at is not None
    return Run(
        id=row.id,
        team_id=scope.team_id,
        team=scope.slug,
        project_id=row.project_id,
        project=row.project,
        job_type=row.job_type,
        name=row.name,
        category=row.category,
        status=status,
        label=label_of(
            status,
            due_in_future=row.due_at > now,
            attempt=row.attempt,
            cancel_requested=requested,
            stalled=leased and _is_stalled(row, now),
            parked=bool(row.lease_parked),
            held=refusal is not None,
        ),
        queue=row.queue,
        priority=row.priority,
        progress=_progress(row),
        attempt=row.attempt,
        max_attempts=row.max_attempts,
        failures=row.failures,
        crash_count=row.crash_count,
        timeout_s=row.timeout_s,
        trigger_type=row.trigger_type,
        triggered_by=row.triggered_by,
        created_at=from_us(row.created_at),
        due_at=from_us(row.due_at),
        started_at=_time(row.started_at),
        finished_at=_time(row.finished_at),
        heartbeat_at=_time(row.lease_beat_at),
        cancel_requested_at=_time(row.cancel_requested_at),
        cancel_requested_by=row.cancel_requested_by,
        cancel_reason=row.cancel_reason,
        failure_kind=FailureKind(row.failure_kind) if row.failure_kind else None,
        error=row.error,
        worker_id=row.lease_worker_id,
        parent_run_id=row.parent_run_id,
        notify=bool(row.notify),
        revision=row.revision + (row.lease_revision or 0),
        held_reason=refusal,
        expires_at=_time(row.expires_at),
        blocked=row.blocked,
        requires_approval=bool(row.requires_approval),
        pinned=bool(row.pinned),
        actions=allowed_actions(status, cancel_requested=requested and status not in TERMINAL),
    )


def _refusal(row: _RunRow, live: LiveWork, pauses: Sequence[Pause]) -> str | None:
    """Why a due run is not taken."""
    for pause in pauses:
        if pause.holds(row.queue, row.job_type, row.gate):
            return f"{words_of(pause.kind, pause.name)} is paused by {pause.actor}"
    if row.gated:
        return "waits for a place under its concurrency key"
    if row.blocked:
        return f"waits for the end of {row.blocked} other run{'s' if row.blocked > 1 else ''}"
    return live.refusal(row.job_type, row.queue)


def _progress(row: _RunRow) -> Progress:
    if row.lease_revision is None:
        return Progress(row.processed, row.total, row.failed, row.skipped, row.message)
    return Progress(
        row.lease_processed or 0,
        row.lease_total,
        row.lease_failed or 0,
        row.lease_skipped or 0,
        row.lease_message or "",
    )


def _is_stalled(row: _RunRow, now: int) -> bool:
    if row.lease_stalled:
        return True
    if row.lease_progress_at is None or row.lease_progress_gap is None:
        return False
    return now - row.lease_progress_at > max(_STALL_FACTOR * row.lease_progress_gap, _STALL_MIN_US)


def is_stalled_clause(now: int) -> ColumnElement[bool]:
    """The label `stalled` as a condition on running runs."""
    silent = now - leases.c.progress_at
    too_long = and_(silent > _STALL_FACTOR * leases.c.progress_gap, silent > _STALL_MIN_US)
    still = exists().where(leases.c.run_id == runs.c.id, or_(leases.c.stalled, too_long))
    return and_(runs.c.cancel_requested_at.is_(None), still)


def _time(value: int | None) -> Any:
    return None if value is None else from_us(value)


def _json(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return {"unreadable": clean(str(text), 200)}


def _object(text: str | None) -> dict[str, Any]:
    found = _json(text) or {}
    return found if isinstance(found, dict) else {"unreadable": clean(str(text), 200)}
