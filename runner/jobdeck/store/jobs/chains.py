"""Which jobs of a team start after which others: no job may, over however many others, start after itself.

Whoever changes that holds the row of the team, so that no two people close a cycle together, and then the rows of the
jobs in the order of their ids.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from sqlalchemy import Connection, delete, insert, or_, select, update

from jobdeck import limits
from jobdeck.errors import Conflict, JobdeckError, NotFound, ValidationError, VersionConflict
from jobdeck.ids import show_id
from jobdeck.model import Dependency, Kin
from jobdeck.states import Condition
from jobdeck.store.schema import job_dependencies, job_templates, jobs, projects, run_parents, runs, teams
from jobdeck.store.transaction import Hint, Rank, Tx, verb

T = TypeVar("T")
_KIN_MAX = 100


class Template(NamedTuple):
    """What a version of a job starts as: see `run_template`."""

    version: int
    run: str


@dataclass(frozen=True, slots=True)
class JobChange:
    """Other dependencies of one job; `template` is needed where some are added."""

    job_id: UUID
    add: tuple[tuple[UUID, Condition], ...] = ()
    remove: tuple[UUID, ...] = ()
    template: Template | None = None


@dataclass(frozen=True, slots=True)
class ChangeChains:
    """Changes of a team's dependencies, all of them or none."""

    team_id: UUID
    actor: str
    jobs: tuple[JobChange, ...]


@verb(Rank.CHANGE)
def change_chains(tx: Tx, items: Sequence[ChangeChains]) -> Sequence[JobdeckError | None]:
    """NotFound, VersionConflict where a job has another version by now, Conflict for what would be a cycle."""
    return [_change_all(tx, item) for item in items]


def _change_all(tx: Tx, item: ChangeChains) -> JobdeckError | None:
    try:
        with tx.attempt():
            tx.differences.lock_rows(tx.conn, teams.c.id, [item.team_id])
            slugs = _check_jobs(tx, item)
            for change in item.jobs:
                _change(tx, item, change)
            _check_cycles(tx, item, slugs)
    except JobdeckError as error:
        return error
    for change in item.jobs:
        _tell(tx, item, change)
    tx.hint(Hint.CHANGE)
    return None


def _tell(tx: Tx, item: ChangeChains, change: JobChange) -> None:
    after = [f"{show_id('job', on)} {condition}" for on, condition in change.add]
    gone = [show_id("job", on) for on in change.remove]
    parts = ({"starts_after": gone} if gone else None, {"starts_after": after} if after else None)
    tx.tell(item, show_id("job", change.job_id), *parts)


def _check_jobs(tx: Tx, item: ChangeChains) -> dict[UUID, str]:
    """Slugs of the jobs that are named, whose rows are locked now. Raises NotFound, VersionConflict."""
    named = {change.job_id for change in item.jobs} | {on for change in item.jobs for on, _ in change.add}
    tx.differences.lock_rows(tx.conn, jobs.c.id, named)
    query = select(jobs.c.id, jobs.c.slug, jobs.c.version).where(
        jobs.c.team_id == item.team_id, jobs.c.id.in_(named), jobs.c.archived_at.is_(None)
    )
    found = {row.id: row for row in tx.conn.execute(query)}
    for job_id in named - found.keys():
        raise NotFound(f"no job {show_id('job', job_id)} in this team")
    for change in item.jobs:
        row = found[change.job_id]
        if change.template is not None and change.template.version != row.version:
            words = f"the job {row.slug} has version {row.version} by now; look at it again"
            raise VersionConflict(words, version=row.version)
    return {job_id: row.slug for job_id, row in found.items()}


def _change(tx: Tx, item: ChangeChains, change: JobChange) -> None:
    mine = job_dependencies.c.job_id == change.job_id
    gone = [*change.remove, *(on for on, _ in change.add)]
    tx.conn.execute(delete(job_dependencies).where(mine, job_dependencies.c.depends_on_job_id.in_(gone)))
    if change.add:
        tx.conn.execute(insert(job_dependencies), [_row(tx, item, change.job_id, *new) for new in change.add])
    left = len(tx.conn.execute(select(job_dependencies.c.job_id).where(mine)).all())
    if left > limits.DEPENDENCIES:
        raise ValidationError(
            f"a job starts after at most {limits.DEPENDENCIES} others, not {left}", field="depends_on"
        )
    if not left or change.template is not None:
        tx.conn.execute(delete(job_templates).where(job_templates.c.job_id == change.job_id))
    if left and change.template is not None:
        tx.conn.execute(insert(job_templates), {"job_id": change.job_id, **change.template._asdict()})


def _row(tx: Tx, item: ChangeChains, job_id: UUID, on_id: UUID, condition: Condition) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "depends_on_job_id": on_id,
        "team_id": item.team_id,
        "condition": condition,
        "created_at": tx.now,
        "created_by": item.actor,
    }


def _check_cycles(tx: Tx, item: ChangeChains, slugs: Mapping[UUID, str]) -> None:
    edges = edges_of(tx.conn, item.team_id)
    for change in item.jobs:
        path = cycle_from(change.job_id, edges) if change.add else None
        if path is not None:
            missing = set(path) - slugs.keys()
            query = select(jobs.c.id, jobs.c.slug).where(jobs.c.id.in_(missing))
            names = {**slugs, **{row.id: row.slug for row in tx.conn.execute(query)}}
            raise cycle_error([names[job_id] for job_id in path])


def edges_of(conn: Connection, team_id: UUID) -> dict[UUID, set[UUID]]:
    """For each job of the team that depends on others, which ones."""
    query = select(job_dependencies.c.job_id, job_dependencies.c.depends_on_job_id).where(
        job_dependencies.c.team_id == team_id
    )
    edges: dict[UUID, set[UUID]] = defaultdict(set)
    for job_id, on_id in conn.execute(query):
        edges[job_id].add(on_id)
    return dict(edges)


def cycle_from(start: T, edges: Mapping[T, Collection[T]]) -> list[T] | None:
    """The way from a job over those that it depends on back to itself, both ends included."""
    came_from: dict[T, T] = {}
    ahead = [start]
    while ahead:
        at = ahead.pop()
        for on in edges.get(at, ()):
            if on == start:
                path = [start, at]
                while path[-1] != start:
                    path.append(came_from[path[-1]])
                return path[::-1]
            if on not in came_from:
                came_from[on] = at
                ahead.append(on)
    return None


def cycle_error(path: Sequence[str]) -> Conflict:
    """The error for jobs that would start after themselves."""
    return Conflict(f"a job cannot start after itself: {' -> '.join(path)} (each would start after the next)")


def keep_template(tx: Tx, job_id: UUID, version: int, run: str | None) -> None:
    """A job, whose row is locked, is about to have this version: what it starts as from now on, if after others.

    Raises ValidationError where it could not be started, as nobody is there to add what its params lack.
    """
    depends = select(job_dependencies.c.job_id).where(job_dependencies.c.job_id == job_id)
    if tx.conn.execute(depends.limit(1)).scalar() is None:
        return
    if run is None:
        raise ValidationError(
            "the job starts after others, so its params must be whole: nobody is there to add what is missing",
            field="params",
        )
    tx.conn.execute(
        update(job_templates).where(job_templates.c.job_id == job_id).values(version=version, run=run)
    )


def leave_chains(tx: Tx, job_id: UUID, slug: str) -> None:
    """A job, whose row is locked, goes out of use. Raises Conflict where others start after it."""
    query = select(jobs.c.slug).join(job_dependencies, job_dependencies.c.job_id == jobs.c.id)
    waiting = tx.conn.execute(query.where(job_dependencies.c.depends_on_job_id == job_id).limit(1)).scalar()
    if waiting is not None:
        raise Conflict(
            f"the job {waiting} starts after {slug}; first: jobdeck jobs undepend {waiting} --on {slug}"
        )
    tx.conn.execute(delete(job_dependencies).where(job_dependencies.c.job_id == job_id))
    tx.conn.execute(delete(job_templates).where(job_templates.c.job_id == job_id))


class Links(NamedTuple):
    """What a job starts after, and what starts after it."""

    depends_on: tuple[Dependency, ...] = ()
    dependants: tuple[Dependency, ...] = ()


def links_of(conn: Connection, team_id: UUID, job_id: UUID | None = None) -> dict[UUID, Links]:
    """The dependencies of one job, or of all jobs of the team; each list by slug."""
    first, second = jobs.alias("first"), jobs.alias("second")
    table = job_dependencies.c
    query = (
        select(table.job_id, table.depends_on_job_id, table.condition, table.met_run_id)
        .add_columns(first.c.slug.label("slug"), second.c.slug.label("on_slug"))
        .add_columns(_project(first).label("project"), _project(second).label("on_project"))
        .join(first, first.c.id == table.job_id)
        .join(second, second.c.id == table.depends_on_job_id)
        .where(table.team_id == team_id)
        .order_by(first.c.slug, second.c.slug)
    )
    if job_id is not None:
        query = query.where(or_(table.job_id == job_id, table.depends_on_job_id == job_id))
    found: dict[UUID, tuple[list[Dependency], list[Dependency]]] = defaultdict(lambda: ([], []))
    for row in conn.execute(query):
        how = (Condition(row.condition), row.met_run_id)
        found[row.job_id][0].append(Dependency(row.depends_on_job_id, row.on_slug, row.on_project, *how))
        found[row.depends_on_job_id][1].append(Dependency(row.job_id, row.slug, row.project, *how))
    return {key: Links(tuple(before), tuple(after)) for key, (before, after) in found.items()}


def _project(table: Any) -> Any:
    return select(projects.c.slug).where(projects.c.id == table.c.project_id).scalar_subquery()


def kin_of(conn: Connection, run_id: UUID) -> tuple[tuple[Kin, ...], tuple[Kin, ...]]:
    """The runs whose ends have started a run, and those that its own end has started; at most a hundred each."""
    mine, other = run_parents.c.run_id, run_parents.c.parent_run_id
    return tuple(_kin(conn, *ends, run_id) for ends in ((mine, other), (other, mine)))  # type: ignore[return-value]


def _kin(conn: Connection, mine: Any, other: Any, run_id: UUID) -> tuple[Kin, ...]:
    query = (
        select(runs.c.id, jobs.c.id, jobs.c.slug)
        .join(run_parents, other == runs.c.id)
        .join(jobs, jobs.c.id == runs.c.job_id)
        .where(mine == run_id)
        .order_by(other)
        .limit(_KIN_MAX)
    )
    return tuple(Kin(*row) for row in conn.execute(query))
