"""From a filter of a list to the routes that lead to its runs: see `jobdeck.store.lists.walks`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, exists, or_, select

from jobdeck.errors import ValidationError
from jobdeck.limits import PAGE_LOOKS, PAGE_LOOKS_SCATTERED, SYSTEM_TYPES
from jobdeck.model import RunFilter, TeamScope
from jobdeck.states import Label, Status
from jobdeck.store.control.pauses import is_paused
from jobdeck.store.differences import Differences
from jobdeck.store.fleet import live_work
from jobdeck.store.lanes import is_pulled
from jobdeck.store.lists.rows import is_stalled_clause
from jobdeck.store.lists.walks import Route, Walk
from jobdeck.store.schema import LISTED, OF_JOB, ORDINARY, leases, projects, runs

Condition: TypeAlias = ColumnElement[bool]
States: TypeAlias = Mapping[Status, tuple[Condition, ...]]
"""Stored statuses; with conditions for the labels that are wanted of one, without where all of it is."""

_OF_RUNNING: Final = (Label.CANCELLING, Label.STALLED, Label.PARKED)


def routes_of(
    conn: Connection, differences: Differences, now: int, scope: TeamScope, chosen: RunFilter
) -> list[Route]:
    """Every way to the runs that the filter shows; no way where there can be no such run.

    Raises ValidationError for a status that is none. System jobs are met only where the filter names their type.
    """
    tests = list(_tests(differences, chosen))
    if chosen.project is not None:
        project_id = _project_id(conn, scope, chosen.project)
        if project_id is None:
            return []
        tests.append(runs.c.project_id == project_id)
    states = _states(conn, now, scope, chosen.statuses)
    of_state = [_any_state(states)] if states else []
    of_type: list[Condition] = []
    routes: list[Route] = []
    if chosen.job_id is not None:
        # Whether it is a system job is asked of the rows: as a plain condition it would lead to the team's index.
        ordinary = () if (chosen.job_type or "").startswith(SYSTEM_TYPES) else (ORDINARY,)
        named = () if chosen.job_type is None else (runs.c.job_type == chosen.job_type,)
        of_job = (OF_JOB, runs.c.job_id == chosen.job_id)
        routes.append((Walk(of_job, (*ordinary, *named, *of_state, *tests), PAGE_LOOKS_SCATTERED),))
    if chosen.job_type is not None:
        of_type = [runs.c.job_type == chosen.job_type]
        by_type = (LISTED, differences.few(of_type[0]))
        routes.append((Walk(by_type, (*of_state, *tests), PAGE_LOOKS_SCATTERED),))
        if chosen.job_type.startswith(SYSTEM_TYPES):
            return routes
    if states:
        looks = PAGE_LOOKS_SCATTERED // len(states)
        walks = [
            Walk((ORDINARY, differences.few(runs.c.status == status)), (*labels, *of_type, *tests), looks)
            for status, labels in states.items()
        ]
        routes.append(tuple(walks))
    routes.append((Walk((ORDINARY,), (*of_type, *of_state, *tests), PAGE_LOOKS),))
    return routes


def _any_state(states: States) -> Condition:
    return or_(*(and_(runs.c.status == status, *labels) for status, labels in states.items()))


def _states(conn: Connection, now: int, scope: TeamScope, names: frozenset[str]) -> States:
    """Which stored statuses have to be read; none where it is all of them."""
    states: dict[Status, tuple[Condition, ...]] = {Status(name): () for name in sorted(names & set(Status))}
    if len(states) == len(Status):
        return {}
    labels: dict[Status, list[Condition]] = {}
    for name in sorted(names - set(Status)):
        if name not in set(Label):
            known = ", ".join([*Status, *Label])
            raise ValidationError(f"{name[:40]!r} is not a status; choose from {known}", field="status")
        status = Status.RUNNING if name in _OF_RUNNING else Status.PENDING
        labels.setdefault(status, []).append(_has_label(conn, now, scope, Label(name)))
    return {status: (or_(*each),) for status, each in labels.items()} | states


def _has_label(conn: Connection, now: int, scope: TeamScope, label: Label) -> Condition:
    """What a run of the right status must fulfil too."""
    match label:
        case Label.SCHEDULED:
            return and_(runs.c.due_at > now, runs.c.attempt == 0)
        case Label.RETRYING:
            return and_(runs.c.due_at > now, runs.c.attempt > 0)
        case Label.CANCELLING:
            return runs.c.cancel_requested_at.is_not(None)
        case Label.STALLED:
            return is_stalled_clause(now)
        case Label.PARKED:
            return exists().where(leases.c.run_id == runs.c.id, leases.c.parked)
        case Label.HELD:
            unserved = and_(~_served(live_work(conn, now, scope.team_id).served), ~is_pulled(runs))
            return and_(runs.c.due_at <= now, or_(runs.c.blocked > 0, unserved, is_paused(runs, now)))


def _served(served: frozenset[tuple[str, str | None]]) -> Condition:
    """Whether some live worker takes the run."""
    everywhere = sorted(kind for kind, queue in served if queue is None)
    somewhere = sorted((kind, queue) for kind, queue in served if queue is not None)
    pairs = [and_(runs.c.job_type == kind, runs.c.queue == queue) for kind, queue in somewhere]
    return or_(runs.c.job_type.in_(everywhere), *pairs)


def _tests(differences: Differences, chosen: RunFilter) -> Iterator[Condition]:
    if chosen.queue is not None:
        yield runs.c.queue == chosen.queue
    if chosen.category is not None:
        yield runs.c.category == chosen.category
    if chosen.trigger_type is not None:
        yield runs.c.trigger_type == chosen.trigger_type
    if chosen.job_id is not None:
        yield runs.c.job_id == chosen.job_id
    if chosen.text:
        searched = (runs.c.job_type, runs.c.name, runs.c.message)
        yield or_(*(differences.contains(column, chosen.text) for column in searched))


def _project_id(conn: Connection, scope: TeamScope, slug: str) -> UUID | None:
    query = select(projects.c.id).where(projects.c.team_id == scope.team_id, projects.c.slug == slug)
    found: UUID | None = conn.execute(query).scalar()
    return found
