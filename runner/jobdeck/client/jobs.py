"""Saved jobs: their definitions, versions and switches, and runs of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID

from jobdeck import limits
from jobdeck.client import cursors
from jobdeck.client.diffs import changes_between
from jobdeck.client.guard import acts, needs
from jobdeck.client.job_chains import JobChains, chain_of, stated_chain
from jobdeck.client.job_runs import build_job_run, check_definition, definition_text
from jobdeck.client.making import RunMaking
from jobdeck.client.options import checked_reason
from jobdeck.client.scopes import checked_slug
from jobdeck.client.session import Session
from jobdeck.client.statistics import checked_window
from jobdeck.client.storing import store_all
from jobdeck.definition import JobDefinition, parse_definition
from jobdeck.errors import NotFound, ValidationError
from jobdeck.ids import new_id, parse_part, show_id
from jobdeck.model import (
    Change,
    Job,
    JobFilter,
    JobSpec,
    JobVersion,
    NewRun,
    PlanAction,
    PlanStep,
    Run,
    RunFilter,
    RunPage,
)
from jobdeck.people import Permission
from jobdeck.states import Condition
from jobdeck.statistics import Health
from jobdeck.store.jobs import definitions as store
from jobdeck.store.lists import statistics
from jobdeck.text import clean, quoted

Jobs: TypeAlias = list[Job]
Versions: TypeAlias = list[JobVersion]
Plan: TypeAlias = list[PlanStep]
WEEK: Final = timedelta(days=7)
"""Window of a job's health (spec.md E20)."""


class JobsApi:
    """Everything about saved jobs of the client's team, in the client's project."""

    def __init__(self, session: Session, runs: RunMaking) -> None:
        self._session = session
        self._runs = runs
        self._chains = JobChains(session, runs)

    @acts("job.create", Permission.JOBS_WRITE)
    async def create(
        self, slug: str, definition: Mapping[str, Any], *, enabled: bool = True, note: str | None = None
    ) -> Job:
        """A new job; `definition` has the fields of `jobdeck.definition`. Raises ValidationError, Conflict."""
        (job_id,) = await self.create_many([JobSpec(slug, definition, enabled)], note=note)
        return await self.show(job_id)

    @acts("job.create", Permission.JOBS_WRITE)
    async def create_many(self, specs: Sequence[JobSpec], *, note: str | None = None) -> list[UUID]:
        """At most 100 jobs, all of them or none. The error says which one of them is wrong."""
        if not 0 < len(specs) <= limits.DEFINITION_BATCH:
            raise ValidationError(f"a batch has 1 to {limits.DEFINITION_BATCH} jobs, not {len(specs)}")
        if any(spec.depends_on for spec in specs):
            raise ValidationError("a new job starts after others by depend or apply", field="depends_on")
        words, new = checked_reason(note), []
        for index, spec in enumerate(specs):
            try:
                new.append(await self._new(self._session, spec, words))
            except ValidationError as error:
                if len(specs) == 1:
                    raise
                raise ValidationError(f"job {index + 1} of the batch: {error}", field=error.field) from None
        return await self._session.database.write(store.create_jobs, new)

    async def _new(self, session: Session, spec: JobSpec, note: str | None) -> store.NewJob:
        definition = await self._checked(session, spec.definition)
        return store.NewJob(
            id=new_id(),
            team_id=session.scope.team_id,
            project_id=session.project.id if session.project else None,
            slug=checked_slug(spec.slug, "job"),
            job_type=definition.type,
            name=definition.name,
            definition=definition_text(definition),
            actor=session.actor,
            enabled=spec.enabled,
            note=note,
        )

    async def _checked(
        self, session: Session, facts: Mapping[str, Any], *, chained: bool = False
    ) -> JobDefinition:
        """The definition, if runs of it can be made. Raises ValidationError."""
        definition = parse_definition(facts)
        registered = await self._runs.registered(definition.type)
        check_definition(session, definition, registered, chained=chained)
        return definition

    @needs(Permission.JOBS_READ)
    async def list(self, chosen: JobFilter | None = None) -> Jobs:
        """Jobs of the team by slug."""
        chosen = chosen or JobFilter()
        if chosen.text is not None and len(chosen.text) > limits.FILTER_CHARS:
            raise ValidationError(
                f"text of a filter has at most {limits.FILTER_CHARS} characters, not {len(chosen.text):,}",
                field="text",
            )
        team_id = self._session.scope.team_id
        return await self._session.database.read(store.list_jobs, team_id, chosen)

    @needs(Permission.JOBS_READ)
    async def resolve(self, text: str) -> UUID:
        """A job by its slug in the project, or by its id. Raises NotFound, ValidationError."""
        database, team_id = self._session.database, self._session.scope.team_id
        project_id = self._session.project.id if self._session.project else None
        found = await database.read(store.find_slug, team_id, project_id, text)
        if found is not None:
            return found
        if text.startswith("job_"):
            part = parse_part("job", text)
            if isinstance(part, UUID):
                return part
        raise NotFound(f"no job {quoted(text, 60)} in this project; see: jobdeck jobs list")

    @needs(Permission.JOBS_READ)
    async def show(self, job_id: UUID) -> Job:
        """Raises NotFound."""
        job = await self._session.database.read(store.find_job, self._session.scope.team_id, job_id)
        if job is None:
            raise NotFound(f"no job {show_id('job', job_id)} in this team")
        return job

    @acts("job.update", Permission.JOBS_WRITE)
    async def update(
        self,
        job_id: UUID,
        changes: Mapping[str, Any],
        *,
        if_version: int | None = None,
        note: str | None = None,
    ) -> Job:
        """The next version: the fields of `changes` are replaced, None takes one out. Raises VersionConflict.

        An update that changes nothing makes no version.
        """
        job = await self.show(job_id)
        facts = {**job.facts, **changes}
        kept = {name: value for name, value in facts.items() if value is not None}
        # Without a version of its own, an update is one of what was just read.
        return await self._replace(job, kept, job.version if if_version is None else if_version, note)

    @acts("job.rollback", Permission.JOBS_WRITE)
    async def rollback(self, job_id: UUID, version: int, *, note: str | None = None) -> Job:
        """A new version that says what an old one said. Raises NotFound."""
        job = await self.show(job_id)
        old = await self.version(job_id, version)
        words = note or f"back to version {version}"
        return await self._replace(job, old.facts, job.version, words)

    async def _replace(self, job: Job, facts: Mapping[str, Any], if_version: int, note: str | None) -> Job:
        definition = await self._checked(await self._runs.session_in(job.project), facts)
        template = await self._chains.template(replace(job, facts=definition.facts()))
        item = store.UpdateJob(
            self._session.scope.team_id,
            job.id,
            definition.type,
            definition.name,
            definition_text(definition),
            self._session.actor,
            checked_reason(note),
            if_version,
            None if isinstance(template, ValidationError) else template.run,
        )
        await self._session.database.write(store.update_job, item)
        return await self.show(job.id)

    @acts("job.clone", Permission.JOBS_WRITE)
    async def clone(self, job_id: UUID, slug: str) -> Job:
        """A new job with the same definition, disabled until somebody enables it. Raises Conflict."""
        job = await self.show(job_id)
        session = await self._runs.session_in(job.project)
        new = await self._new(session, JobSpec(slug, job.facts, enabled=False), f"clone of {job.slug}")
        (made,) = await session.database.write(store.create_jobs, [new])
        return await self.show(made)

    @acts("job.switch", Permission.JOBS_WRITE)
    async def switch(self, job_ids: Sequence[UUID], *, enabled: bool) -> int:
        """Enable or disable jobs, all or none; how many are another way now. Raises NotFound."""
        scope, actor = self._session.scope, self._session.actor
        batch = [store.SwitchJob(scope.team_id, job_id, actor, enabled=enabled) for job_id in job_ids]
        return await self._session.database.write(store.switch_jobs, batch)

    @acts("job.archive", Permission.JOBS_WRITE)
    async def archive(self, job_id: UUID) -> Job:
        """Take a job out of use; its versions and runs stay. Raises Conflict while runs of it are active."""
        item = store.SwitchJob(self._session.scope.team_id, job_id, self._session.actor, archive=True)
        await self._session.database.write(store.switch_jobs, [item])
        return await self.show(job_id)

    @acts("job.depend", Permission.JOBS_WRITE)
    async def depend(self, job_id: UUID, on_id: UUID, condition: Condition = Condition.COMPLETED) -> Job:
        """Let the job start after another one, when a run of that has ended so; after all that it depends on.

        Raises NotFound, Conflict for what would be a cycle, ValidationError where its params are not whole.
        """
        await self._chains.change([(await self.show(job_id), ((on_id, condition),), ())])
        return await self.show(job_id)

    @acts("job.undepend", Permission.JOBS_WRITE)
    async def undepend(self, job_id: UUID, on_id: UUID) -> Job:
        """Let the job start without the other one. Raises NotFound where it did not depend on it."""
        job = await self.show(job_id)
        if on_id not in {dependency.job_id for dependency in job.depends_on}:
            raise NotFound(f"the job {job.slug} does not start after {show_id('job', on_id)}")
        await self._chains.change([(job, (), (on_id,))])
        return await self.show(job_id)

    @needs(Permission.JOBS_READ)
    async def health(self, job_id: UUID, *, window: timedelta = WEEK) -> Health:
        """How the runs went that were made in the window. Raises NotFound, ValidationError."""
        await self.show(job_id)
        return await self._session.read(statistics.health, job_id, window=checked_window(window))

    @needs(Permission.JOBS_READ)
    async def history(
        self, job_id: UUID, *, limit: int = limits.PAGE_DEFAULT, cursor: str | None = None
    ) -> RunPage:
        """One page of the job's runs, newest first. Raises NotFound, ValidationError."""
        if not 1 <= limit <= limits.PAGE_MAX:
            raise ValidationError(f"a page has 1 to {limits.PAGE_MAX} runs, not {limit}", field="limit")
        await self.show(job_id)
        place = (self._session.scope, RunFilter(), job_id.hex)
        after = cursors.decode(cursor, *place) if cursor else None
        found = await self._session.read(statistics.history, job_id, after=after, limit=limit + 1)
        shown, more = tuple(found[:limit]), len(found) > limit
        return RunPage(shown, cursors.encode(shown[-1].key, *place) if more else None, more)

    @needs(Permission.JOBS_READ)
    async def versions(self, job_id: UUID) -> Versions:
        """All versions, newest first. Raises NotFound."""
        team_id = self._session.scope.team_id
        found = await self._session.database.read(store.list_versions, team_id, job_id)
        if not found:
            raise NotFound(f"no job {show_id('job', job_id)} in this team")
        return found

    @needs(Permission.JOBS_READ)
    async def version(self, job_id: UUID, number: int) -> JobVersion:
        """Raises NotFound."""
        for version in await self.versions(job_id):
            if version.version == number:
                return version
        raise NotFound(f"the job has no version {number}; see: jobdeck jobs versions")

    @needs(Permission.JOBS_READ)
    async def diff(self, job_id: UUID, first: int, second: int) -> tuple[Change, ...]:
        """What differs between two versions. Raises NotFound."""
        before, after = await self.version(job_id, first), await self.version(job_id, second)
        return changes_between(before.facts, after.facts)

    @acts("run.trigger", Permission.JOBS_WRITE, on="job")
    async def trigger(
        self, job_id: UUID, params: Mapping[str, Any] | None = None, *, force: bool = False, **options: Any
    ) -> Run:
        """A run of the job; params and options go over those of its definition, key by key.

        Raises JobDisabled unless `force`, and whatever `RunsApi.trigger` raises.
        """
        new = await self._built(job_id, params, options, force=force)
        (run_id,) = await store_all(self._session.database, [new])
        return await self._runs.answer(run_id, new)

    @needs(Permission.JOBS_WRITE)
    async def preview(
        self, job_id: UUID, params: Mapping[str, Any] | None = None, *, force: bool = False, **options: Any
    ) -> Run:
        """What `trigger` would return or raise now; nothing is stored."""
        return await self._runs.rehearsed(await self._built(job_id, params, options, force=force))

    async def _built(
        self, job_id: UUID, params: Mapping[str, Any] | None, options: Mapping[str, Any], *, force: bool
    ) -> NewRun:
        job = await self.show(job_id)
        registered = await self._runs.registered(job.job_type)
        session = await self._runs.session_in(job.project)
        return build_job_run(session, job, registered, params, options, force=force)

    @needs(Permission.JOBS_READ)
    async def plan(self, specs: Sequence[JobSpec]) -> Plan:
        """What `apply` would do to bring the project's jobs to these definitions. Raises ValidationError."""
        steps = [await self._step(spec) for spec in specs]
        await self._chains.check(specs, [job for _, job in steps])
        return [step for step, _ in steps]

    @acts("job.apply", Permission.JOBS_WRITE)
    async def apply(self, specs: Sequence[JobSpec], *, note: str | None = None) -> Plan:
        """Make or update jobs so that they are what the specs say; others are left alone. Nothing is done where one of
        them is not valid. Raises ValidationError, VersionConflict where somebody changes one meanwhile."""
        steps = [await self._step(spec) for spec in specs]
        await self._chains.check(specs, [job for _, job in steps])
        new = [spec for spec, (step, _) in zip(specs, steps, strict=True) if step.action is PlanAction.CREATE]
        for start in range(0, len(new), limits.DEFINITION_BATCH):
            batch = [replace(spec, depends_on=()) for spec in new[start : start + limits.DEFINITION_BATCH]]
            await self.create_many(batch, note=note)
        for spec, (step, job) in zip(specs, steps, strict=True):
            if job is None or step.action is not PlanAction.UPDATE:
                continue
            await self._replace(job, spec.definition, job.version, note)
            if job.enabled != spec.enabled:
                await self.switch([job.id], enabled=spec.enabled)
        # At the end, when all of them are there.
        await self._chains.apply([(await self.show(await self.resolve(spec.slug)), spec) for spec in specs])
        return [step for step, _ in steps]

    async def _step(self, spec: JobSpec) -> tuple[PlanStep, Job | None]:
        try:
            chained = bool(spec.depends_on)
            definition = await self._checked(self._session, spec.definition, chained=chained)
        except ValidationError as error:
            raise ValidationError(f"job {clean(spec.slug, 64)}: {error}", field=error.field) from None
        session = self._session
        project = session.project.slug if session.project else None
        project_id = session.project.id if session.project else None
        slug = checked_slug(spec.slug, "job")
        job_id = await session.database.read(store.find_slug, session.scope.team_id, project_id, slug)
        after = definition.facts() | {"enabled": spec.enabled} | stated_chain(spec)
        if job_id is None:
            return PlanStep(slug, project, PlanAction.CREATE, changes_between({}, after)), None
        job = await self.show(job_id)
        changes = changes_between({**job.facts, "enabled": job.enabled} | chain_of(job), after)
        action = PlanAction.UPDATE if changes else PlanAction.KEEP
        return PlanStep(slug, project, action, changes), job
