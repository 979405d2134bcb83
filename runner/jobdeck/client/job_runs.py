"""From a saved job, and what a trigger states beside it, to a validated run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from jobdeck import jsonio, limits
from jobdeck.client.announcing import checked_webhook
from jobdeck.client.builder import RunBuilder, validate_by_schema
from jobdeck.client.options import RunOptions
from jobdeck.client.session import Session
from jobdeck.definition import JobDefinition, merged_params, parse_definition
from jobdeck.model import Job, JobRef, JobType, NewRun, RunExtras
from jobdeck.states import OnConflict, Overlap, TriggerType


def build_job_run(
    session: Session,
    job: Job,
    registered: JobType | None,
    params: Mapping[str, Any] | None,
    given: Mapping[str, Any],
    *,
    force: bool = False,
) -> NewRun:
    """A run of a job; `params` and options that are given go over those of its definition. Raises ValidationError."""
    definition = parse_definition(job.facts)
    stated = {name: value for name, value in given.items() if not _is_unsaid(value)}
    new = RunBuilder(session, definition.type, registered, _options(definition, stated)).build(
        _params(definition, params)
    )
    ref = JobRef(job.id, job.version, _overrides(params, stated), definition.environment, force)
    return _with_job(new, ref, announces=definition.announces)


def build_fired_run(
    session: Session, job: Job, registered: JobType | None, schedule_id: UUID, fire_at: datetime
) -> NewRun:
    """The run of one fire of a job's schedule. Raises ValidationError."""
    definition = parse_definition(job.facts)
    assert definition.schedule is not None  # noqa: S101  it has fired
    given: dict[str, Any] = {"at": fire_at, "triggered_by": f"schedule:{job.slug}"}
    if (mode := _ON_OVERLAP[definition.schedule.overlap]) is not None:
        # The runs of one schedule share a key; what the database does about that is what overlap means.
        given |= {"dedupe_key": f"schedule:{job.id.hex}", "on_conflict": mode}
    new = build_job_run(session, job, registered, None, given)
    assert new.extras is not None and new.extras.job is not None  # noqa: S101, PT018  made just now
    ref = new.extras.job._replace(schedule_id=schedule_id, fire_at=fire_at)
    return _with_job(new._replace(trigger_type=TriggerType.SCHEDULED), ref)


_ON_OVERLAP = {
    Overlap.ALLOW: None,
    Overlap.SKIP: OnConflict.RETURN_EXISTING,
    Overlap.QUEUE: OnConflict.QUEUE_LATEST,
    Overlap.CANCEL_PREVIOUS: OnConflict.REPLACE,
}


def chained_run(session: Session, job: Job, registered: JobType | None) -> NewRun:
    """The run that the job starts as after others. Raises ValidationError where its params are not whole."""
    return build_job_run(session, job, registered, None, {})


def _with_job(new: NewRun, ref: JobRef, *, announces: bool = False) -> NewRun:
    extras = new.extras or RunExtras()
    return new._replace(extras=extras._replace(job=ref, announces=extras.announces or announces))


def check_definition(
    session: Session, definition: JobDefinition, registered: JobType | None, *, chained: bool = False
) -> None:
    """Whether runs of it can be made; params that are still missing may come with each trigger.

    Not those of a job with a schedule, or one that starts after others (`chained`).

    Raises ValidationError, UnknownJobType, Forbidden.
    """
    builder = RunBuilder(session, definition.type, registered, _options(definition, {}))
    builder.check_part(definition.params)
    for url in definition.webhook_urls:
        checked_webhook(url, "webhook_url", session.http_allow)
    if definition.payload_schema is not None:
        validate_by_schema(definition.payload_schema, definition.params, "the job", part=True)
    if definition.schedule is not None or chained:
        # Nobody is there to add what is missing.
        builder.build(_params(definition, None))
    if definition.schedule is not None:
        definition.schedule.schedule("").check(datetime.now(UTC))


def _params(definition: JobDefinition, given: Mapping[str, Any] | None) -> dict[str, Any]:
    params = merged_params(definition.params, given)
    if definition.payload_schema is not None:
        validate_by_schema(definition.payload_schema, params, "the job")
    return params


def check_narrowed(facts: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    """Whether a run of a job that says this may have these params. Raises ValidationError."""
    schema = parse_definition(facts).payload_schema
    if schema is not None:
        validate_by_schema(schema, params, "the job")


def _is_unsaid(value: Any) -> bool:
    return value is None or value is False or (isinstance(value, list | tuple) and not value)


def _options(definition: JobDefinition, stated: Mapping[str, Any]) -> RunOptions:
    own: dict[str, Any] = {
        "queue": definition.queue,
        "priority": definition.priority,
        "ttl": definition.ttl,
        "timeout": definition.timeout,
        "max_attempts": definition.max_attempts,
        "backoff": None if definition.backoff is None else definition.backoff.backoff(),
        "name": definition.name or None,
        "requires_approval": definition.requires_approval,
        "notify": definition.notify,
        "on_conflict": definition.on_conflict,
        "concurrency_key": definition.concurrency_key,
    }
    # A time that is stated is one, and leaves no room for the job's delay.
    if "at" not in stated:
        own["delay"] = definition.delay
    merged = {
        name: {**base, **(stated.get(name) or {})}
        for name, base in (("tags", definition.tags), ("metadata", definition.metadata))
    }
    return RunOptions(**{**own, **stated, **merged})


def _overrides(params: Mapping[str, Any] | None, stated: Mapping[str, Any]) -> str | None:
    """What a newer version of the job must not change."""
    options = sorted(name for name in stated if name in ("timeout", "max_attempts", "backoff"))
    if not params and not options:
        return None
    told = {"params": dict(params or {}), "options": options}
    # Whatever can be wrong with them has been found when the run was built.
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


def definition_text(definition: JobDefinition) -> str:
    """What is stored. Raises ValidationError where it is too large."""
    return jsonio.dumps(definition.facts(), what="definition", limit=limits.DEFINITION_BYTES)
