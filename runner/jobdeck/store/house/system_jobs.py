"""The store's own jobs: they keep its house, on schedules of their own, in a team of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, select

from jobdeck.definition import parse_definition
from jobdeck.errors import JobdeckError
from jobdeck.ids import new_id
from jobdeck.limits import SYSTEM_QUEUE, SYSTEM_TEAM
from jobdeck.model import Job, JobFilter, Run, TeamScope
from jobdeck.store.jobs.definitions import NewJob, UpdateJob, create_jobs, find_slug, list_jobs, update_job
from jobdeck.store.lists.detail import show
from jobdeck.store.schema import OF_JOB, job_versions, jobs, runs
from jobdeck.store.scopes import NewTeam, create_team, find_team
from jobdeck.store.transaction import Rank, Tx, verb

ACTOR: Final = "system"
_NAME: Final = "jobdeck itself"


@dataclass(frozen=True, slots=True)
class SystemJob:
    """One of them; `cron` is in UTC."""

    slug: str
    job_type: str
    name: str
    cron: str

    def definition(self) -> str:
        """As jobs store it. A fire that nobody was there for is caught up once."""
        facts = {
            "type": self.job_type,
            "name": self.name,
            "queue": SYSTEM_QUEUE,
            "schedule": {"cron": self.cron, "overlap": "skip"},
        }
        return parse_definition(facts).stored()


@verb(Rank.CHANGE)
def keep_system_jobs(tx: Tx, items: Sequence[Sequence[SystemJob]]) -> Sequence[JobdeckError | None]:
    """Make those that are missing and bring the others up to date; one that was disabled stays disabled."""
    return [_keep(tx, item) for item in items]


def _keep(tx: Tx, wanted: Sequence[SystemJob]) -> JobdeckError | None:
    team = find_team(tx.conn, SYSTEM_TEAM)
    if team is None:
        (made,) = create_team(tx, [NewTeam(new_id(), SYSTEM_TEAM, _NAME, existing_ok=True)])
        if isinstance(made, JobdeckError):
            return made
        team = made
    for job in wanted:
        failed = _keep_one(tx, team.id, job)
        if failed is not None:
            return failed
    return None


def _keep_one(tx: Tx, team_id: UUID, job: SystemJob) -> JobdeckError | None:
    definition = job.definition()
    job_id = find_slug(tx.conn, team_id, None, job.slug)
    result: object
    if job_id is None:
        new = NewJob(new_id(), team_id, None, job.slug, job.job_type, job.name, definition, ACTOR)
        (result,) = create_jobs(tx, [[new]])
    elif _definition_of(tx.conn, job_id) != definition:
        change = UpdateJob(team_id, job_id, job.job_type, job.name, definition, ACTOR)
        (result,) = update_job(tx, [change])
    else:
        return None
    return result if isinstance(result, JobdeckError) else None


def _definition_of(conn: Connection, job_id: UUID) -> str | None:
    newest = (job_versions.c.job_id == jobs.c.id) & (job_versions.c.version == jobs.c.version)
    query = select(job_versions.c.definition).join(jobs, newest).where(jobs.c.id == job_id)
    found: str | None = conn.execute(query).scalar()
    return found


def last_runs(conn: Connection, now: int) -> list[tuple[Job, Run | None]]:
    """The jobs by slug, each with its newest run; none before the first worker has started."""
    team = find_team(conn, SYSTEM_TEAM)
    if team is None:
        return []
    scope = TeamScope(team.id, team.slug)
    return [(job, _last_run(conn, now, scope, job.id)) for job in list_jobs(conn, team.id, JobFilter())]


def _last_run(conn: Connection, now: int, scope: TeamScope, job_id: UUID) -> Run | None:
    newest = (runs.c.created_at.desc(), runs.c.id.desc())
    query = select(runs.c.id).where(runs.c.job_id == job_id, OF_JOB).order_by(*newest).limit(1)
    found: UUID | None = conn.execute(query).scalar()
    return None if found is None else show(conn, now, scope, found)
