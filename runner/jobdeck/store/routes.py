"""From a filter of a list to the routes that lead to its runs: see `jobdeck.store.walks`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, or_, select

from jobdeck.errors import ValidationError
from jobdeck.limits import SYSTEM_TYPES
from jobdeck.model import RunFilter, TeamScope
from jobdeck.states import Label, Status
from jobdeck.store.differences import Differences
from jobdeck.store.fleet import live_work
from jobdeck.store.rows import is_stalled_clause
from jobdeck.store.schema import ORDINARY, projects, runs
from jobdeck.store.walks import Route, Test, Walk

# Rows a page looks at. Neighbours in the list of a team stand close together in the table: 0.3 us each on SQLite and
# 0.5 us on PostgreSQL, twice that with a text to be found. Those of one type or status are scattered: 2 to 5 us each.
# Measured with a million runs.
_LOOKS: Final = 2_000
_LOOKS_SCATTERED: Final = 500

States: TypeAlias = Mapping[Status, tuple[Test, ...]]
"""Stored statuses; with tests for the labels that are wanted of one, without where all of it is."""


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
        tests.append(Test(("project_id",), lambda row: row.project_id == project_id))
    states = _states(conn, now, chosen.statuses)
    of_state = [_any_state(states)] if states else []
    of_type: list[Test] = []
    routes: list[Route] = []
    if (job_type := chosen.job_type) is not None:
        of_type = [Test(("job_type",), lambda row: row.job_type == job_type)]
        along = (differences.few(runs.c.job_type == job_type),)
        routes.append((Walk(along, (*of_state, *tests), _LOOKS_SCATTERED),))
        if job_type.startswith(SYSTEM_TYPES):
            return routes
    if states:
        routes.append(tuple(_walks_by_state(differences, states, [*of_type, *tests])))
    routes.append((Walk((ORDINARY,), (*of_type, *of_state, *tests), _LOOKS),))
    return routes


def _walks_by_state(differences: Differences, states: States, tests: list[Test]) -> Iterator[Walk]:
    for status, labels in states.items():
        along = (ORDINARY, differences.few(runs.c.status == status))
        yield Walk(along, (*_joined(labels), *tests), _LOOKS_SCATTERED // len(states))


def _joined(labels: tuple[Test, ...]) -> list[Test]:
    if not labels:
        return []
    needs = tuple(name for label in labels for name in label.needs)
    return [Test(needs, lambda row: or_(*(label.holds(row) for label in labels)))]


def _any_state(states: States) -> Test:
    parts = {status: _joined(labels) for status, labels in states.items()}
    needs = ("status", *(name for labels in parts.values() for test in labels for name in test.needs))

    def holds(row: Any) -> ColumnElement[bool]:
        return or_(
            *(
                and_(row.status == status, *(test.holds(row) for test in tests))
                for status, tests in parts.items()
            )
        )

    return Test(needs, holds)


def _states(conn: Connection, now: int, names: frozenset[str]) -> States:
    """Which stored statuses have to be read; none where it is all of them."""
    whole = {Status(name) for name in names & set(Status)}
    if len(whole) == len(Status):
        return {}
    states: dict[Status, tuple[Test, ...]] = dict.fromkeys(sorted(whole), ())
    for name in sorted(names - set(Status)):
        if name not in set(Label):
            known = ", ".join([*Status, *Label])
            raise ValidationError(f"{name[:40]!r} is not a status; choose from {known}", field="status")
        label = Label(name)
        status = Status.RUNNING if label in (Label.CANCELLING, Label.STALLED) else Status.PENDING
        if status not in whole:
            states[status] = (*states.get(status, ()), _label_test(conn, now, label))
    return states


def _label_test(conn: Connection, now: int, label: Label) -> Test:
    match label:
        case Label.SCHEDULED:
            return Test(("due_at", "attempt"), lambda row: and_(row.due_at > now, row.attempt == 0))
        case Label.RETRYING:
            return Test(("due_at", "attempt"), lambda row: and_(row.due_at > now, row.attempt > 0))
        case Label.CANCELLING:
            return Test(("cancel_requested_at",), lambda row: row.cancel_requested_at.is_not(None))
        case Label.STALLED:
            return Test(("cancel_requested_at",), lambda row: is_stalled_clause(row, now))
        case Label.HELD:
            served = live_work(conn, now).served
            needs = ("due_at", "job_type", "queue")
            return Test(needs, lambda row: and_(row.due_at <= now, ~_served(served, row)))


def _served(served: frozenset[tuple[str, str | None]], row: Any) -> ColumnElement[bool]:
    """Whether some live worker takes the run."""
    everywhere = sorted(kind for kind, queue in served if queue is None)
    somewhere = sorted((kind, queue) for kind, queue in served if queue is not None)
    pairs = [and_(row.job_type == kind, row.queue == queue) for kind, queue in somewhere]
    return or_(row.job_type.in_(everywhere), *pairs)


def _tests(differences: Differences, chosen: RunFilter) -> Iterator[Test]:
    if (queue := chosen.queue) is not None:
        yield Test(("queue",), lambda row: row.queue == queue)
    if (category := chosen.category) is not None:
        yield Test(("category",), lambda row: row.category == category)
    if text := chosen.text:
        searched = ("job_type", "name", "message")
        yield Test(searched, lambda row: or_(*(differences.contains(row[name], text) for name in searched)))


def _project_id(conn: Connection, scope: TeamScope, slug: str) -> UUID | None:
    query = select(projects.c.id).where(projects.c.team_id == scope.team_id, projects.c.slug == slug)
    found: UUID | None = conn.execute(query).scalar()
    return found
