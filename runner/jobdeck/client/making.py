"""New runs: one, many of a kind, a batch of different ones; again; or only tried out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeAlias
from uuid import UUID

from jobdeck import limits
from jobdeck.client.builder import RunBuilder
from jobdeck.client.guard import acts, needs
from jobdeck.client.job_runs import check_narrowed
from jobdeck.client.options import RunOptions
from jobdeck.client.reading import RunReading
from jobdeck.client.session import Session
from jobdeck.client.storing import store_all, store_each
from jobdeck.errors import Conflict, JobdeckError, ValidationError
from jobdeck.ids import new_id
from jobdeck.model import BatchItem, BatchResult, JobRef, JobType, NewRun, Run, RunExtras
from jobdeck.people import Permission
from jobdeck.retry import from_facts
from jobdeck.store.amend import PINNED
from jobdeck.store.fleet import find_type
from jobdeck.store.jobs.definitions import find_version
from jobdeck.store.rehearse import Rehearsal, rehearse
from jobdeck.store.scopes import find_project
from jobdeck.text import clean

Ids: TypeAlias = list[UUID]
Results: TypeAlias = list[BatchResult]


class RunMaking(RunReading):
    """How runs are made."""

    @acts("run.trigger", Permission.JOBS_WRITE)
    async def trigger(self, job_type: str, params: Mapping[str, Any] | None = None, **options: Any) -> Run:
        """Validate, store and return one run. Options are the fields of `RunOptions`.

        Where another run stands for it already (idempotency key, dedupe key), that one, as `deduplicated`.
        Raises UnknownJobType, ValidationError, Forbidden, AlreadyActive, IdempotencyMismatch, and NotFound or Conflict
        for runs to wait for; nothing is stored then.
        """
        new = await self._built(self._session, job_type, params, RunOptions(**options))
        (run_id,) = await store_all(self._session.database, [new])
        return await self.answer(run_id, new)

    @needs(Permission.JOBS_READ)
    async def answer(self, run_id: UUID, asked: NewRun) -> Run:
        """The answer to a trigger that asked for a run and was given this one."""
        return replace(await self.show(run_id), deduplicated=run_id != asked.id)

    @acts("run.trigger", Permission.JOBS_WRITE)
    async def enqueue(self, job_type: str, params: Mapping[str, Any] | None = None, **options: Any) -> UUID:
        """`trigger` that gives the id alone."""
        new = await self._built(self._session, job_type, params, RunOptions(**options))
        (run_id,) = await store_all(self._session.database, [new])
        return run_id

    @needs(Permission.JOBS_WRITE)
    async def preview(self, job_type: str, params: Mapping[str, Any] | None = None, **options: Any) -> Run:
        """What `trigger` would return or raise now; nothing is stored."""
        return await self.rehearsed(await self._built(self._session, job_type, params, RunOptions(**options)))

    @needs(Permission.JOBS_WRITE)
    async def rehearsed(self, new: NewRun) -> Run:
        """The run as it would stand there, or the one that stands for it; raises what storing it would."""
        found = await self._session.database.write(rehearse, Rehearsal(self._session.scope, new))
        return replace(found, deduplicated=found.id != new.id)

    @acts("run.trigger", Permission.JOBS_WRITE)
    async def trigger_many(self, job_type: str, params: Sequence[Mapping[str, Any]], **options: Any) -> Ids:
        """Many runs of one type, at most 10,000; validated all before the first is stored.

        Raises PartlyRefused where another run is in the way of some of them: the others are stored, and it names them.
        """
        _check_size(len(params))
        builder = await self._builder(self._session, job_type, RunOptions(**options))
        runs = [builder.build(item) for item in params]
        flights = [run.flight_key for run in runs if run.flight_key is not None]
        if len(set(flights)) < len(flights):
            raise Conflict(
                f"of {clean(job_type, 128)} only one run at a time may be active here; make them one by one"
            )
        return await store_all(self._session.database, runs)

    @acts("run.trigger", Permission.JOBS_WRITE)
    async def trigger_batch(self, items: Sequence[BatchItem]) -> Results:
        """Different runs, at most 10,000; each of them is stored or refused for itself, in the order of the items.

        Those that are stored have one `batch_id`. Raises ValidationError for a batch that is too large.
        """
        _check_size(len(items))
        results: list[BatchResult | None] = [None] * len(items)
        built: dict[int, NewRun] = {}
        batch_id = new_id()
        for index, item in enumerate(items):
            try:
                options = _batch_options(item.options)
                new = await self._built(self._session, item.job_type, item.params, options)
                built[index] = new._replace(extras=(new.extras or RunExtras())._replace(batch_id=batch_id))
            except JobdeckError as error:
                results[index] = BatchResult(error=error)
        stored = await store_each(self._session.database, list(built.values())) if built else {}
        for index, run in built.items():
            results[index] = _result(run, stored[run.id])
        return [result for result in results if result is not None]

    @acts("run.rerun", Permission.JOBS_WRITE)
    async def rerun(
        self, run_id: UUID, params: Mapping[str, Any] | None = None, *, requires_approval: bool | None = None
    ) -> Run:
        """A new run of the same request, or with other params, as a continuation of that one.

        Raises NotFound, and whatever `trigger` raises.
        """
        old = await self.show(run_id)
        session = await self.session_of(old)
        needs = old.requires_approval if requires_approval is None else requires_approval
        options = RunOptions(
            **_same_again(old),
            requires_approval=needs,
            continuation_of=old.id,
            triggered_by=f"manual:{session.actor}",
        )
        if params is not None:
            await self._check_by_job(old, params)
        new = await self._built(session, old.job_type, old.params if params is None else params, options)
        if old.job_id is not None:
            ref = JobRef(old.job_id, old.job_version or 1, PINNED, old.environment, force=True)
            # Whom its job tells is looked for when it ends.
            extras = (new.extras or RunExtras())._replace(job=ref, announces=True)
            new = new._replace(extras=extras)
        (made,) = await store_all(session.database, [new])
        return await self.show(made)

    async def _check_by_job(self, run: Run, params: Mapping[str, Any]) -> None:
        """Params stated for a run of a saved job, by the schema of its version. Raises ValidationError."""
        if run.job_id is None or run.job_version is None:
            return
        team_id = self._session.scope.team_id
        facts = await self._session.database.read(find_version, team_id, run.job_id, run.job_version)
        if facts is not None:
            check_narrowed(facts, params)

    @needs(Permission.JOBS_READ)
    async def session_of(self, run: Run) -> Session:
        """The session, in the project of that run."""
        return await self.session_in(run.project)

    @needs(Permission.JOBS_READ)
    async def session_in(self, slug: str | None) -> Session:
        """The session, in this project of the team or in none."""
        session, project = self._session, None
        if slug is not None:
            project = await session.database.read(find_project, session.scope.team_id, slug)
        return replace(session, project=project)

    async def _built(
        self, session: Session, job_type: str, params: Mapping[str, Any] | None, options: RunOptions
    ) -> NewRun:
        return (await self._builder(session, job_type, options)).build(params or {})

    async def _builder(self, session: Session, job_type: str, options: RunOptions) -> RunBuilder:
        return RunBuilder(session, job_type, await self.registered(job_type), options)

    @needs(Permission.JOBS_READ)
    async def registered(self, job_type: str) -> JobType | None:
        """The row of a job type whose package is not installed here; None where it is, or where there is none."""
        # What could not be the name of a type is not looked up: a database may refuse the very text.
        is_name = re.fullmatch(limits.JOB_TYPE_PATTERN, job_type) is not None
        if not is_name or self._session.local_spec(job_type) is not None:
            return None
        return await self._session.database.read(find_type, job_type)


def _check_size(size: int) -> None:
    if size > limits.ENQUEUE_BATCH:
        raise ValidationError(f"at most {limits.ENQUEUE_BATCH:,} runs at a time, not {size:,}", field="count")


def _batch_options(options: Mapping[str, Any]) -> RunOptions:
    try:
        return RunOptions(**options)
    except TypeError as error:
        raise ValidationError(f"an option of the run is not known: {error}", field="options") from None


def _result(run: NewRun, stored: UUID | JobdeckError) -> BatchResult:
    if isinstance(stored, JobdeckError):
        return BatchResult(error=stored)
    return BatchResult(stored, deduplicated=stored != run.id)


def _same_again(old: Run) -> dict[str, Any]:
    """What was asked for with a run, as far as it is about the work itself and not about its moment."""
    return {
        "queue": old.queue,
        "priority": old.priority,
        "max_attempts": old.max_attempts,
        "timeout": timedelta(seconds=old.timeout_s),
        "backoff": None if old.backoff is None else from_facts(old.backoff),
        "name": old.name,
        "tags": old.tags,
        "metadata": old.metadata,
        "notify": old.notify,
        "concurrency_key": old.concurrency_key,
        "callback_url": old.callback_url,
    }
