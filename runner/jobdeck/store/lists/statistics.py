"""How runs went, counted by the database. Every read is bounded in time by an index."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, case, func, literal, or_, select

from jobdeck.clock import from_us, to_us
from jobdeck.model import Run, RunKey, TeamScope
from jobdeck.states import FailureKind, Status
from jobdeck.statistics import Grouping, Health, Outcomes, Statistics
from jobdeck.store.columns import word
from jobdeck.store.lists.rows import select_runs, to_runs
from jobdeck.store.schema import OF_JOB, ORDINARY, runs

_BROKEN = or_(runs.c.status == word(Status.FAILED), runs.c.status == word(Status.DEAD))
_KIND = case(
    (runs.c.status == word(Status.COMPLETED), "completed"),
    (and_(_BROKEN, runs.c.failure_kind == word(FailureKind.TIMED_OUT)), "timed_out"),
    (and_(_BROKEN, runs.c.failure_kind == word(FailureKind.CRASHED)), "crashed"),
    (_BROKEN, "failed"),
    (runs.c.status == word(Status.CANCELLED), "cancelled"),
    (runs.c.status == word(Status.EXPIRED), "expired"),
    else_="active",
)
_KEYS = {Grouping.STATUS: runs.c.status, Grouping.TYPE: runs.c.job_type, Grouping.QUEUE: runs.c.queue}


def health(conn: Connection, now: int, scope: TeamScope, job_id: UUID, *, window: timedelta) -> Health:
    """Of a job of the team; nothing is counted where the team has no such job."""
    span = int(window.total_seconds() * 1_000_000)
    mine = (runs.c.job_id == job_id, OF_JOB, runs.c.team_id == scope.team_id)
    before, this = (
        _outcomes(conn, literal(""), *mine, runs.c.created_at > since, runs.c.created_at <= since + span)
        for since in (now - 2 * span, now - span)
    )
    earlier = before.get("", Outcomes()).p95_secs
    return Health(from_us(now - span), from_us(now), this.get("", Outcomes()), earlier)


def statistics(
    conn: Connection, now: int, scope: TeamScope, *, window: timedelta, by: Grouping | None = None
) -> Statistics:
    """Of the team's runs but system jobs."""
    since = now - int(window.total_seconds() * 1_000_000)
    mine = (runs.c.team_id == scope.team_id, ORDINARY, runs.c.created_at > since)
    total = _outcomes(conn, literal(""), *mine).get("", Outcomes())
    groups = {} if by is None else _outcomes(conn, _KEYS[by], *mine)
    return Statistics(from_us(since), from_us(now), total, dict(sorted(groups.items())))


def _outcomes(
    conn: Connection, key: ColumnElement[str], *conditions: ColumnElement[bool]
) -> dict[str, Outcomes]:
    took = case((runs.c.status == word(Status.COMPLETED), runs.c.finished_at - runs.c.started_at))
    found = select(key.label("key"), _KIND.label("kind"), took.label("took")).where(*conditions).subquery()
    lane = (found.c.key, found.c.kind)
    # The nearest rank: the 95th of 100, the 5th of 5.
    rank = func.row_number().over(partition_by=lane, order_by=found.c.took)
    size = func.count().over(partition_by=lane)
    ranked = select(*found.c, rank.label("rank"), size.label("size")).subquery()
    c = ranked.c
    query = select(
        c.key,
        c.kind,
        func.count().label("runs"),
        func.avg(c.took).label("average"),
        func.max(case((c.rank == (c.size * 95 + 99) // 100, c.took))).label("p95"),
    ).group_by(c.key, c.kind)
    groups: dict[str, dict[str, Any]] = defaultdict(dict)
    for row in conn.execute(query):
        groups[row.key][row.kind] = row.runs
        if row.kind == "completed":
            groups[row.key] |= {"average_secs": _seconds(row.average), "p95_secs": _seconds(row.p95)}
    return {name: Outcomes(**facts) for name, facts in groups.items()}


def _seconds(microseconds: Any) -> float | None:
    return None if microseconds is None else float(microseconds) / 1_000_000


def history(
    conn: Connection, now: int, scope: TeamScope, job_id: UUID, *, after: RunKey | None, limit: int
) -> Sequence[Run]:
    """Runs of a job of the team, newest first, from the place `after` on."""
    query = select_runs().where(runs.c.job_id == job_id, OF_JOB, runs.c.team_id == scope.team_id)
    if after is not None:
        at = to_us(after.created_at)
        query = query.where(runs.c.created_at <= at, or_(runs.c.created_at < at, runs.c.id < after.id))
    rows = conn.execute(query.order_by(runs.c.created_at.desc(), runs.c.id.desc()).limit(limit)).all()
    return to_runs(conn, scope, rows, now)
