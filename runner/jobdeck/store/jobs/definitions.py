"""Saved jobs and their versions. A version never changes; an update makes the next one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, RowMapping, Select, and_, insert, or_, select, update

from jobdeck.audit import digest
from jobdeck.clock import from_us
from jobdeck.errors import Conflict, JobdeckError, NotFound, VersionConflict
from jobdeck.ids import show_id
from jobdeck.model import Job, JobFilter, JobVersion
from jobdeck.states import ACTIVE
from jobdeck.store.control.gates import keep_limits
from jobdeck.store.jobs.chains import Links, keep_template, leave_chains, links_of
from jobdeck.store.jobs.schedules import keep_schedule, schedule_of, set_next_fire
from jobdeck.store.schema import OF_JOB, job_versions, jobs, projects, runs, schedules
from jobdeck.store.transaction import Hint, Rank, Tx, verb

_ACTIVE: Final = sorted(ACTIVE)


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be made; its definition has been checked."""

    id: UUID
    team_id: UUID
    project_id: UUID | None
    slug: str
    job_type: str
    name: str
    definition: str
    """Compact JSON."""
    actor: str
    enabled: bool = True
    note: str | None = None


@dataclass(frozen=True, slots=True)
class UpdateJob:
    """The next version of a job of this team."""

    team_id: UUID
    job_id: UUID
    job_type: str
    name: str
    definition: str
    actor: str
    note: str | None = None
    if_version: int | None = None
    """Refused where the job has another version by now."""
    template: str | None = None
    """A run of it, where one can be made without a trigger: see `run_template`."""


@dataclass(frozen=True, slots=True)
class SwitchJob:
    """Enable, disable or archive a job of this team."""

    team_id: UUID
    job_id: UUID
    actor: str
    enabled: bool | None = None
    archive: bool = False


@verb(Rank.CHANGE)
def create_jobs(tx: Tx, items: Sequence[Sequence[NewJob]]) -> Sequence[list[UUID] | JobdeckError]:
    """Each item is a batch, made as a whole or not at all. Conflict says which one of it has a slug that is taken."""
    return [_create(tx, item) for item in items]


def _create(tx: Tx, new: Sequence[NewJob]) -> list[UUID] | JobdeckError:
    taken: set[tuple[UUID | None, str]] = set()
    for index, job in enumerate(new):
        place = (job.project_id, job.slug)
        if place in taken or find_slug(tx.conn, job.team_id, job.project_id, job.slug) is not None:
            which = f"job {index + 1} of the batch: " if len(new) > 1 else ""
            return Conflict(f"{which}there is already a job {job.slug!r}; update it, or choose another slug")
        taken.add(place)
    tx.conn.execute(insert(jobs), [_job_row(job, tx.now) for job in new])
    tx.conn.execute(
        insert(job_versions),
        [_version_row(job.id, 1, job.definition, job.actor, job.note, tx.now) for job in new],
    )
    for job in new:
        keep_schedule(tx, job.team_id, job.id, job.definition, enabled=job.enabled)
        keep_limits(tx, job.team_id, job.id, job.definition)
        after = {"slug": job.slug, "version": 1, "enabled": job.enabled, "definition": digest(job.definition)}
        tx.tell(new, show_id("job", job.id), None, after)
    tx.hint(Hint.CHANGE)
    return [job.id for job in new]


def _job_row(job: NewJob, now: int) -> dict[str, Any]:
    return {
        "id": job.id,
        "team_id": job.team_id,
        "project_id": job.project_id,
        "slug": job.slug,
        "job_type": job.job_type,
        "name": job.name,
        "version": 1,
        "enabled": job.enabled,
        "created_at": now,
        "created_by": job.actor,
        "updated_at": now,
        "updated_by": job.actor,
    }


def _version_row(
    job_id: UUID, version: int, definition: str, actor: str, note: str | None, now: int
) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "version": version,
        "definition": definition,
        "created_at": now,
        "created_by": actor,
        "note": note,
    }


@verb(Rank.CHANGE)
def update_job(tx: Tx, items: Sequence[UpdateJob]) -> Sequence[int | JobdeckError]:
    """The version of each job now; an unchanged definition makes none. NotFound, VersionConflict."""
    return [_update(tx, item) for item in items]


def _update(tx: Tx, item: UpdateJob) -> int | JobdeckError:
    row = _locked(tx, item.team_id, item.job_id)
    if row is None:
        return unknown_job(item.job_id)
    if item.if_version is not None and item.if_version != row.version:
        return VersionConflict(
            f"the job {row.slug} has version {row.version} by now, not {item.if_version}; look at it again",
            version=row.version,
        )
    before: str = tx.conn.execute(_definition(item.job_id, row.version)).scalar_one()
    version = row.version + (before != item.definition)
    try:
        keep_template(tx, item.job_id, version, item.template)
    except JobdeckError as error:
        return error
    if version == row.version:
        return int(version)
    tx.conn.execute(
        insert(job_versions),
        _version_row(item.job_id, version, item.definition, item.actor, item.note, tx.now),
    )
    changed = {"version": version, "job_type": item.job_type, "name": item.name}
    tx.conn.execute(
        update(jobs)
        .where(jobs.c.id == item.job_id)
        .values(**changed, updated_at=tx.now, updated_by=item.actor)
    )
    keep_schedule(tx, item.team_id, item.job_id, item.definition, enabled=bool(row.enabled), before=before)
    keep_limits(tx, item.team_id, item.job_id, item.definition)
    tx.tell(
        item,
        show_id("job", item.job_id),
        {"version": row.version, "definition": digest(before)},
        {"version": version, "definition": digest(item.definition)},
    )
    tx.hint(Hint.CHANGE | Hint.WORK)
    return int(version)


@verb(Rank.CHANGE)
def switch_jobs(tx: Tx, items: Sequence[Sequence[SwitchJob]]) -> Sequence[int | JobdeckError]:
    """How many jobs of each batch are another way now; a batch is changed as a whole or not at all.

    NotFound; Conflict for one that is to be archived while runs of it are active.
    """
    return [_switch_all(tx, item) for item in items]


def _switch_all(tx: Tx, batch: Sequence[SwitchJob]) -> int | JobdeckError:
    changed = 0
    with tx.conn.begin_nested() as savepoint:
        # In one order: two of these must not wait for each other.
        for item in sorted(batch, key=lambda item: item.job_id):
            found = _switch(tx, batch, item)
            if isinstance(found, JobdeckError):
                savepoint.rollback()
                return found
            changed += found
    tx.hint(Hint.CHANGE)
    return changed


def _switch(tx: Tx, batch: Sequence[SwitchJob], item: SwitchJob) -> bool | JobdeckError:
    row = _locked(tx, item.team_id, item.job_id)
    if row is None:
        return unknown_job(item.job_id)
    values: dict[str, Any] = {}
    if item.enabled is not None and item.enabled != bool(row.enabled):
        values["enabled"] = item.enabled
    if item.archive:
        active = select(runs.c.id).where(runs.c.job_id == item.job_id, OF_JOB, runs.c.status.in_(_ACTIVE))
        run_id = tx.conn.execute(active.limit(1)).scalar()
        if run_id is not None:
            shown = show_id("run", run_id)
            return Conflict(f"runs of the job {row.slug} are active, like {shown}; cancel them first")
        try:
            leave_chains(tx, item.job_id, row.slug)
        except JobdeckError as error:
            return error
        values |= {"archived_at": tx.now, "enabled": False}
    if not values:
        return False
    after = {"archived": True} if item.archive else values
    tx.tell(batch, show_id("job", item.job_id), {"enabled": bool(row.enabled)}, after)
    changed = values | {"updated_at": tx.now, "updated_by": item.actor}
    tx.conn.execute(update(jobs).where(jobs.c.id == item.job_id).values(changed))
    definition: str = tx.conn.execute(_definition(item.job_id, row.version)).scalar_one()
    part = schedule_of(definition)
    if part is not None:
        set_next_fire(tx, item.job_id, part, enabled=bool(values.get("enabled", row.enabled)))
    return True


def unknown_job(job_id: UUID) -> NotFound:
    """The error for a job that the team does not have."""
    return NotFound(f"no job {show_id('job', job_id)} in this team")


def _locked(tx: Tx, team_id: UUID, job_id: UUID) -> Any:
    query = select(jobs.c.slug, jobs.c.version, jobs.c.enabled).where(
        jobs.c.team_id == team_id, jobs.c.id == job_id, jobs.c.archived_at.is_(None)
    )
    return tx.conn.execute(tx.differences.locked(query, by=jobs.c.id)).one_or_none()


def _definition(job_id: UUID, version: int) -> Select[Any]:
    return select(job_versions.c.definition).where(
        job_versions.c.job_id == job_id, job_versions.c.version == version
    )


def find_slug(conn: Connection, team_id: UUID, project_id: UUID | None, slug: str) -> UUID | None:
    """The job of this slug in the project, or outside projects; archived ones have no slug any more."""
    in_project = jobs.c.project_id.is_(None) if project_id is None else jobs.c.project_id == project_id
    query = select(jobs.c.id).where(
        jobs.c.team_id == team_id, in_project, jobs.c.slug == slug, jobs.c.archived_at.is_(None)
    )
    found: UUID | None = conn.execute(query).scalar()
    return found


def _select_jobs() -> Select[Any]:
    return (
        select(
            jobs,
            projects.c.slug.label("project"),
            job_versions.c.definition,
            schedules.c.id.label("schedule_id"),
            *(schedules.c[name] for name in ("next_fire_at", "last_fire_at", "note")),
        )
        .select_from(
            jobs.join(
                job_versions,
                and_(job_versions.c.job_id == jobs.c.id, job_versions.c.version == jobs.c.version),
            )
            .outerjoin(projects, projects.c.id == jobs.c.project_id)
            .outerjoin(schedules, schedules.c.job_id == jobs.c.id)
        )
        .order_by(jobs.c.slug, jobs.c.id)
    )


def list_jobs(conn: Connection, team_id: UUID, chosen: JobFilter) -> list[Job]:
    """Jobs of the team by slug."""
    query = _select_jobs().where(jobs.c.team_id == team_id)
    query = query.where(jobs.c.archived_at.is_not(None) if chosen.archived else jobs.c.archived_at.is_(None))
    if chosen.project is not None:
        query = query.where(projects.c.slug == chosen.project)
    if chosen.job_type is not None:
        query = query.where(jobs.c.job_type == chosen.job_type)
    if chosen.enabled is not None:
        query = query.where(jobs.c.enabled == chosen.enabled)
    if chosen.text:
        found = [column.icontains(chosen.text, autoescape=True) for column in (jobs.c.slug, jobs.c.name)]
        query = query.where(or_(*found))
    links = links_of(conn, team_id)
    return [_job(row, links) for row in conn.execute(query).mappings()]


def find_job(conn: Connection, team_id: UUID, job_id: UUID) -> Job | None:
    """The job of the team, archived or not."""
    query = _select_jobs().where(jobs.c.team_id == team_id, jobs.c.id == job_id)
    row = conn.execute(query).mappings().one_or_none()
    return None if row is None else _job(row, links_of(conn, team_id, job_id))


def slug_of(conn: Connection, job_id: UUID) -> str | None:
    """The slug of a job, archived or not."""
    found: str | None = conn.execute(select(jobs.c.slug).where(jobs.c.id == job_id)).scalar()
    return found


def find_version(conn: Connection, team_id: UUID, job_id: UUID, version: int) -> dict[str, Any] | None:
    """What one version of a job of the team says."""
    mine = select(jobs.c.id).where(jobs.c.id == job_id, jobs.c.team_id == team_id)
    found = conn.execute(_definition(job_id, version).where(mine.exists())).scalar()
    return None if found is None else dict(json.loads(found))


def list_versions(conn: Connection, team_id: UUID, job_id: UUID) -> list[JobVersion]:
    """All versions of a job, newest first; none where the team has no such job."""
    query = (
        select(job_versions)
        .join(jobs, jobs.c.id == job_versions.c.job_id)
        .where(jobs.c.team_id == team_id, jobs.c.id == job_id)
        .order_by(job_versions.c.version.desc())
    )
    return [_version(row) for row in conn.execute(query).mappings()]


def _job(row: RowMapping, links: Mapping[UUID, Links]) -> Job:
    depends_on, dependants = links.get(row["id"], Links())
    return Job(
        depends_on=depends_on,
        dependants=dependants,
        id=row["id"],
        team_id=row["team_id"],
        project_id=row["project_id"],
        project=row["project"],
        slug=row["slug"],
        version=row["version"],
        enabled=bool(row["enabled"]),
        facts=json.loads(row["definition"]),
        created_at=from_us(row["created_at"]),
        created_by=row["created_by"],
        updated_at=from_us(row["updated_at"]),
        updated_by=row["updated_by"],
        archived_at=_time(row["archived_at"]),
        schedule_id=row["schedule_id"],
        next_fire_at=_time(row["next_fire_at"]),
        last_fire_at=_time(row["last_fire_at"]),
        schedule_note=row["note"],
    )


def _time(value: int | None) -> datetime | None:
    return None if value is None else from_us(value)


def _version(row: RowMapping) -> JobVersion:
    return JobVersion(
        job_id=row["job_id"],
        version=row["version"],
        facts=json.loads(row["definition"]),
        created_at=from_us(row["created_at"]),
        created_by=row["created_by"],
        note=row["note"],
    )
