"""Claim: as many due runs as a worker has free slots, in one statement.

Pending runs stand in lanes (team, queue, job type, priority). A loose index scan finds the lanes without touching
what waits in them; of each lane at most `limit` due runs are looked at. Teams then take turns; inside a team the
order is priority, due time, id. So neither 100,000 runs of one team nor of an unknown type slow a claim down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Integer,
    ScalarSelect,
    Select,
    bindparam,
    func,
    insert,
    literal_column,
    select,
    tuple_,
    update,
)

from jobdeck.errors import JobdeckError
from jobdeck.states import Status
from jobdeck.store.differences import Differences
from jobdeck.store.schema import checkpoints, leases, projects, runs, teams
from jobdeck.store.transaction import Hint, Rank, Tx, verb

# A literal, so that the partial index of pending runs fits also where the statement is planned without its values.
_PENDING: ColumnElement[str] = literal_column(f"'{Status.PENDING}'")
_NOW: ColumnElement[int] = bindparam("now", type_=BigInteger)
_MOST: ColumnElement[int] = bindparam("most", type_=Integer)
_TAKEN = (
    "id", "fence", "attempt", "team_id", "project_id", "job_type", "queue", "params", "max_attempts", "failures",
    "crash_count", "timeout_s", "debug_mode", "log_bytes", "priority", "due_at",
)  # fmt: skip
_ORDER = ("id", "team_id", "priority", "due_at")
_LANE = ("team_id", "queue", "job_type", "priority")


@dataclass(frozen=True, slots=True)
class Claim:
    """What a worker asks for. Empty `queues` means every queue."""

    worker_id: UUID
    worker: str
    limit: int
    lease_us: int
    job_types: tuple[str, ...]
    queues: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClaimedRun:
    """A run that now belongs to this worker until its lease ends; `fence` guards everything it writes."""

    id: UUID
    fence: int
    attempt: int
    team_id: UUID
    team: str
    project_id: UUID | None
    project: str | None
    job_type: str
    queue: str
    params: str
    max_attempts: int
    failures: int
    crash_count: int
    timeout_s: float
    debug_mode: bool
    log_bytes: int
    resume: str | None
    lease_until: int


@verb(Rank.CLAIM)
def claim(tx: Tx, items: Sequence[Claim]) -> Sequence[list[ClaimedRun] | JobdeckError]:
    """For each worker a list of runs, possibly empty."""
    return [_claim_for(tx, item) for item in items]


def _claim_for(tx: Tx, request: Claim) -> list[ClaimedRun]:
    if request.limit < 1 or not request.job_types:
        return []
    bound = {"now": tx.now, "most": request.limit, "job_types": request.job_types}
    if request.queues:
        bound["queues"] = request.queues
    found = tx.conn.execute(_statement(tx.differences, bool(request.queues)), bound).mappings()
    rows = sorted(found, key=lambda row: (row["priority"], row["due_at"], row["id"]))
    if not rows:
        return []
    tx.hint(Hint.CHANGE)
    lease_until = tx.now + request.lease_us
    tx.conn.execute(insert(leases), [_lease(tx, request, row, lease_until) for row in rows])
    resumes = _resumes(tx, [row["id"] for row in rows if row["attempt"] > 1])
    slugs = _slugs(tx, {row["team_id"] for row in rows}, {row["project_id"] for row in rows} - {None})
    return [_claimed(row, lease_until, resumes, slugs) for row in rows]


@cache
def _statement(differences: Differences, some_queues: bool) -> Any:
    """The whole claim. Built once: its many aliases of a wide table cost milliseconds to make."""
    return (
        update(runs)
        .where(differences.in_query(runs.c.id, _chosen(differences, some_queues)), runs.c.status == _PENDING)
        .values(
            status=Status.RUNNING,
            fence=runs.c.fence + 1,
            attempt=runs.c.attempt + 1,
            started_at=func.coalesce(runs.c.started_at, _NOW),
            revision=runs.c.revision + 1,
        )
        .returning(*(runs.c[name] for name in _TAKEN))
    )


def _chosen(differences: Differences, some_queues: bool) -> Select[Any]:
    """Ids of the runs to take: teams in turn, inside a team by priority, due time and id."""
    heads = _heads(some_queues)
    waiting = runs.alias("waiting")
    per_lane = (
        select(*(waiting.c[name] for name in _ORDER))
        .where(
            *(waiting.c[name] == heads.c[name] for name in _LANE),
            waiting.c.status == _PENDING,
            waiting.c.due_at <= _NOW,
            (waiting.c.expires_at.is_(None)) | (waiting.c.expires_at > _NOW),
        )
        .order_by(waiting.c.due_at, waiting.c.id)
        .limit(_MOST)
    )
    found = differences.first_of_each(heads, per_lane).subquery("candidates")
    in_team = (found.c.priority, found.c.due_at, found.c.id)
    turn = func.row_number().over(partition_by=found.c.team_id, order_by=in_team)
    turns = select(found.c.id, found.c.priority, found.c.due_at, turn.label("turn")).subquery("turns")
    return (
        select(turns.c.id).order_by(turns.c.turn, turns.c.priority, turns.c.due_at, turns.c.id).limit(_MOST)
    )


def _heads(some_queues: bool) -> FromClause:
    """The lanes that this worker may serve and that have something due, found by a loose index scan."""
    first, previous, following, head = (
        runs.alias(name) for name in ("first", "previous", "following", "head")
    )
    lanes = select(_earliest(first).label("id")).cte("lanes", recursive=True)
    step = _earliest(following, tuple_(*_lane(following)) > tuple_(*_lane(previous)))
    lanes = lanes.union_all(select(step).select_from(lanes.join(previous, previous.c.id == lanes.c.id)))
    query = (
        select(*_lane(head))
        .select_from(lanes.join(head, head.c.id == lanes.c.id))
        .where(head.c.due_at <= _NOW, head.c.job_type.in_(bindparam("job_types", expanding=True)))
    )
    if some_queues:
        query = query.where(head.c.queue.in_(bindparam("queues", expanding=True)))
    return query.subquery("heads")


def _earliest(table: FromClause, *conditions: ColumnElement[bool]) -> ScalarSelect[Any]:
    """The first pending run in the order of lanes and due times."""
    return (
        select(table.c.id)
        .where(table.c.status == _PENDING, *conditions)
        .order_by(*_lane(table), table.c.due_at, table.c.id)
        .limit(1)
        .scalar_subquery()
    )


def _lane(table: FromClause) -> list[ColumnElement[Any]]:
    return [table.c[name] for name in _LANE]


def _lease(tx: Tx, request: Claim, row: Any, lease_until: int) -> dict[str, Any]:
    return {
        "run_id": row["id"],
        "team_id": row["team_id"],
        "fence": row["fence"],
        "worker_id": request.worker_id,
        "worker": request.worker,
        "claimed_at": tx.now,
        "beat_at": tx.now,
        "lease_until": lease_until,
        "log_bytes": row["log_bytes"],
    }


def _resumes(tx: Tx, ids: list[UUID]) -> dict[UUID, str]:
    if not ids:
        return {}
    query = select(checkpoints.c.run_id, checkpoints.c.state).where(checkpoints.c.run_id.in_(ids))
    return {row.run_id: row.state for row in tx.conn.execute(query)}


def _slugs(tx: Tx, team_ids: set[UUID], project_ids: set[UUID]) -> dict[UUID, str]:
    query = select(teams.c.id, teams.c.slug).where(teams.c.id.in_(team_ids))
    found = {row.id: row.slug for row in tx.conn.execute(query)}
    if project_ids:
        query = select(projects.c.id, projects.c.slug).where(projects.c.id.in_(project_ids))
        found |= {row.id: row.slug for row in tx.conn.execute(query)}
    return found


def _claimed(row: Any, lease_until: int, resumes: dict[UUID, str], slugs: dict[UUID, str]) -> ClaimedRun:
    facts = {name: row[name] for name in _TAKEN if name not in ("priority", "due_at")}
    return ClaimedRun(
        **facts,
        team=slugs[row["team_id"]],
        project=slugs.get(row["project_id"]) if row["project_id"] else None,
        resume=resumes.get(row["id"]),
        lease_until=lease_until,
    )
