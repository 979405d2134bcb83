"""Which saved jobs start after which others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from jobdeck.client.job_runs import chained_run
from jobdeck.client.making import RunMaking
from jobdeck.client.session import Session
from jobdeck.errors import NotFound, ValidationError
from jobdeck.ids import parse_part, show_id
from jobdeck.model import DependsOn, Job, JobSpec
from jobdeck.states import Condition
from jobdeck.store.jobs.chains import (
    ChangeChains,
    JobChange,
    Template,
    change_chains,
    cycle_error,
    cycle_from,
    edges_of,
)
from jobdeck.store.jobs.definitions import find_job, find_slug
from jobdeck.store.jobs.run_template import template_text
from jobdeck.text import clean, quoted

Wanted = tuple[Job, tuple[tuple[UUID, Condition], ...], tuple[UUID, ...]]
"""A job, which others it is to start after as well, and which not any more."""


class JobChains:
    """Dependencies between jobs of the client's team."""

    def __init__(self, session: Session, runs: RunMaking) -> None:
        self._session = session
        self._runs = runs

    async def template(self, job: Job) -> Template | ValidationError:
        """What the job starts as, or why it cannot be started without a trigger."""
        session = await self._runs.session_in(job.project)
        try:
            run = chained_run(session, job, await self._runs.registered(job.job_type))
        except ValidationError as error:
            return error
        return Template(job.version, template_text(run))

    async def change(self, wanted: Iterable[Wanted]) -> None:
        """All of it or nothing. Raises NotFound, Conflict, VersionConflict, ValidationError."""
        changes = []
        for job, add, remove in wanted:
            template = await self.template(job) if add else None
            if isinstance(template, ValidationError):
                raise ValidationError(
                    f"job {job.slug}: nobody is there to add what its params lack: {template}", field="params"
                )
            changes.append(JobChange(job.id, add, remove, template))
        if changes:
            session = self._session
            item = ChangeChains(session.scope.team_id, session.actor, tuple(changes))
            await session.database.write(change_chains, item)

    async def check(self, specs: Sequence[JobSpec], jobs: Sequence[Job | None]) -> None:
        """Whether these specs, of jobs that are there or are to be made, name jobs and close no cycle.

        Raises ValidationError, Conflict.
        """
        if not any(spec.depends_on for spec in specs):
            return
        edges: dict[UUID | str, set[UUID | str]] = {}
        for job_id, others in (await self._edges()).items():
            edges[job_id] = set(others)
        new = {spec.slug for spec, job in zip(specs, jobs, strict=True) if job is None}
        keys = [spec.slug if job is None else job.id for spec, job in zip(specs, jobs, strict=True)]
        names: dict[UUID | str, str] = {key: spec.slug for key, spec in zip(keys, specs, strict=True)}
        for key, spec in zip(keys, specs, strict=True):
            edges[key] = {await self._key(spec, on, new) for on in spec.depends_on}
        for key in keys:
            path = cycle_from(key, edges)
            if path is not None:
                raise cycle_error([names.get(at) or await self._slug(at) for at in path])

    async def _edges(self) -> dict[UUID, set[UUID]]:
        return await self._session.database.read(edges_of, self._session.scope.team_id)

    async def _key(self, spec: JobSpec, on: DependsOn, new: set[str]) -> UUID | str:
        """What stands for a job in a graph: its id, or its slug while it has none."""
        if on.job in new:
            return on.job
        try:
            return await self._resolve(on.job)
        except NotFound as error:
            raise ValidationError(f"job {clean(spec.slug, 64)}: {error}", field="depends_on") from None

    async def _resolve(self, text: str) -> UUID:
        """A job of the team by its slug in the project, or by its id. Raises NotFound, ValidationError."""
        database, team_id, project = (
            self._session.database,
            self._session.scope.team_id,
            self._session.project,
        )
        found = await database.read(find_slug, team_id, project.id if project else None, text)
        if found is None and text.startswith("job_"):
            part = parse_part("job", text)
            if isinstance(part, UUID) and await database.read(find_job, team_id, part) is not None:
                found = part
        if found is None:
            raise NotFound(f"it is to start after {quoted(text, 64)}, and there is no such job")
        return found

    async def _slug(self, job: UUID | str) -> str:
        if isinstance(job, str):
            return job
        found = await self._session.database.read(find_job, self._session.scope.team_id, job)
        return show_id("job", job) if found is None else found.slug

    async def apply(self, wanted: Sequence[tuple[Job, JobSpec]]) -> None:
        """Make the dependencies of these jobs what their specs say, all of them or none."""
        changes: list[Wanted] = []
        for job, spec in wanted:
            asked = {await self._resolve(on.job): on.condition for on in spec.depends_on}
            there = {dependency.job_id: dependency.condition for dependency in job.depends_on}
            add = tuple((on, how) for on, how in asked.items() if there.get(on) != how)
            remove = tuple(on for on in there if on not in asked)
            if add or remove:
                changes.append((job, add, remove))
        await self.change(changes)


def chain_of(job: Job) -> dict[str, Any]:
    """`depends_on` of a job as a file states it; nothing where it depends on nothing."""
    stated = (
        DependsOn(each.job if each.project == job.project else show_id("job", each.job_id), each.condition)
        for each in job.depends_on
    )
    return _stated(stated)


def stated_chain(spec: JobSpec) -> dict[str, Any]:
    """`depends_on` of a spec, in the same form and order."""
    return _stated(spec.depends_on)


def _stated(wanted: Iterable[DependsOn]) -> dict[str, Any]:
    found = [{"job": on.job, "condition": str(on.condition)} for on in sorted(wanted)]
    return {"depends_on": found} if found else {}
