"""Lists of runs: keyset pages newest first, counts, and finding a run by part of its id. Every query has a team."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Select, Tuple, and_, func, literal, or_, select, tuple_

from jobdeck.clock import to_us
from jobdeck.errors import ValidationError
from jobdeck.ids import prefix_range, tail_bits
from jobdeck.limits import SYSTEM_TYPES
from jobdeck.model import Run, RunFilter, TeamScope
from jobdeck.states import Label, Status
from jobdeck.store.differences import Differences
from jobdeck.store.fleet import live_work
from jobdeck.store.rows import is_stalled_clause, select_runs, to_runs
from jobdeck.store.schema import projects, runs

PARTS_MAX = 20
"""As many ids are enough to say that a part of an id is not unique."""
Key = tuple[int, UUID]
"""(created_at in microseconds, id): what a page is continued from."""


def page(
    conn: Connection,
    now: int,
    scope: TeamScope,
    chosen: RunFilter,
    *,
    limit: int,
    after: Key | None = None,
    before: Key | None = None,
    last: bool = False,
) -> list[Run]:
    """Runs newest first: those older than `after`, newer than `before`, or the oldest ones (`last`)."""
    query = _filtered(conn, now, scope, chosen, select_runs()).limit(limit)
    place = tuple_(runs.c.created_at, runs.c.id)
    if after is not None:
        query = query.where(place < _bound(after))
    if before is not None:
        query = query.where(place > _bound(before))
    upward = last or before is not None
    order = (runs.c.created_at, runs.c.id) if upward else (runs.c.created_at.desc(), runs.c.id.desc())
    rows = list(conn.execute(query.order_by(*order)).mappings())
    return to_runs(conn, rows[::-1] if upward else rows, now)


def _bound(key: Key) -> Tuple:
    # With the columns' own types: a plain UUID would be compared as text with SQLite's bytes, and never be less.
    return tuple_(literal(key[0], runs.c.created_at.type), literal(key[1], runs.c.id.type))


def by_ids(conn: Connection, now: int, scope: TeamScope, ids: Sequence[UUID]) -> list[Run]:
    """These runs of the team, in no order; unknown ones are left out."""
    query = select_runs().where(runs.c.team_id == scope.team_id, runs.c.id.in_(ids))
    return to_runs(conn, list(conn.execute(query).mappings()), now)


def key_of(conn: Connection, scope: TeamScope, run_id: UUID) -> Key | None:
    """The place of a run in the list."""
    query = select(runs.c.created_at, runs.c.id).where(runs.c.team_id == scope.team_id, runs.c.id == run_id)
    row = conn.execute(query).one_or_none()
    return None if row is None else (row.created_at, row.id)


def ids_like(conn: Connection, differences: Differences, scope: TeamScope, part: str) -> list[UUID]:
    """Ids of the team whose shown form begins or ends with `part`; at most a few, for telling them apart."""
    low, high = prefix_range(part)
    mine = runs.c.team_id == scope.team_id
    found = set(
        conn.execute(select(runs.c.id).where(mine, runs.c.id.between(low, high)).limit(PARTS_MAX)).scalars()
    )
    value, bits = tail_bits(part)
    last = (value & (1 << bits // 8 * 8) - 1).to_bytes(bits // 8, "big")
    query = select(runs.c.id).where(mine, differences.id_ends_with(runs.c.id, last))
    mask = (1 << bits) - 1
    found |= {run_id for run_id in conn.execute(query).scalars() if run_id.int & mask == value}
    return sorted(found)


def _filtered(
    conn: Connection, now: int, scope: TeamScope, chosen: RunFilter, query: Select[Any]
) -> Select[Any]:
    query = query.where(runs.c.team_id == scope.team_id)
    if chosen.job_type is None:
        query = query.where(_is_no_system_type())
    else:
        query = query.where(runs.c.job_type == chosen.job_type)
    if chosen.statuses:
        query = query.where(or_(*(_has_status(conn, now, name) for name in sorted(chosen.statuses))))
    if chosen.queue is not None:
        query = query.where(runs.c.queue == chosen.queue)
    if chosen.category is not None:
        query = query.where(runs.c.category == chosen.category)
    if chosen.project is not None:
        query = query.where(projects.c.slug == chosen.project)
    if chosen.since is not None:
        query = query.where(runs.c.created_at >= to_us(chosen.since))
    if chosen.until is not None:
        query = query.where(runs.c.created_at <= to_us(chosen.until))
    if chosen.text:
        query = query.where(_matches(chosen.text))
    return query


def _is_no_system_type() -> ColumnElement[bool]:
    # Not LIKE, which takes no notice of case on SQLite.
    return func.substr(runs.c.job_type, 1, len(SYSTEM_TYPES)) != SYSTEM_TYPES


def _has_status(conn: Connection, now: int, name: str) -> ColumnElement[bool]:
    pending, running = runs.c.status == Status.PENDING, runs.c.status == Status.RUNNING
    if name in set(Status):
        return runs.c.status == name
    if name == Label.SCHEDULED:
        return and_(pending, runs.c.due_at > now, runs.c.attempt == 0)
    if name == Label.RETRYING:
        return and_(pending, runs.c.due_at > now, runs.c.attempt > 0)
    if name == Label.CANCELLING:
        return and_(running, runs.c.cancel_requested_at.is_not(None))
    if name == Label.STALLED:
        return and_(running, is_stalled_clause(now))
    if name == Label.HELD:
        return and_(pending, runs.c.due_at <= now, ~_served(conn, now))
    known = ", ".join([*Status, *Label])
    raise ValidationError(f"{name[:40]!r} is not a status; choose from {known}", field="status")


def _served(conn: Connection, now: int) -> ColumnElement[bool]:
    pairs = sorted(live_work(conn, now).served, key=str)
    if not pairs:
        return runs.c.job_type.in_([])
    return or_(
        *(
            runs.c.job_type == kind if queue is None else and_(runs.c.job_type == kind, runs.c.queue == queue)
            for kind, queue in pairs
        )
    )


def _matches(text: str) -> ColumnElement[bool]:
    lowered = text.lower()
    clauses = [
        func.lower(column).contains(lowered, autoescape=True)
        for column in (runs.c.job_type, runs.c.name, runs.c.message)
    ]
    return or_(*clauses)
