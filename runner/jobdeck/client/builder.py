"""From a request to a validated `NewRun`: every limit is checked here, before anything is stored."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from jobdeck import jsonio, limits
from jobdeck.client.announcing import announced
from jobdeck.client.options import (
    RunOptions,
    checked_due,
    checked_name,
    checked_priority,
    checked_queue,
    checked_timeout,
    extras_of,
    metadata_json,
    ranged,
    request_digest,
    stated,
    tags_json,
)
from jobdeck.client.session import Session
from jobdeck.errors import Forbidden, UnknownJobType, ValidationError
from jobdeck.ids import NO_ID, new_id
from jobdeck.model import JobType, NewRun
from jobdeck.spec import HandlerSpec
from jobdeck.states import TriggerType
from jobdeck.text import clean, quoted


class RunBuilder:
    """Builds runs of one job type; made once per trigger, however many runs it makes."""

    def __init__(
        self, session: Session, job_type: str, registered: JobType | None, options: RunOptions
    ) -> None:
        self._session = session
        self._options = options
        self._spec = session.local_spec(job_type)
        if self._spec is None and registered is None:
            raise UnknownJobType(
                f"no worker or installed package knows the job type {quoted(job_type, 128)}; "
                "see: jobdeck types list",
                field="job_type",
            )
        self._kind = registered if self._spec is None else None
        self._template = self._checked(job_type)

    def build(self, params: Mapping[str, Any]) -> NewRun:
        """One run with these params. Raises ValidationError."""
        text = jsonio.dumps(dict(params), what="params", limit=limits.PARAMS_BYTES)
        key = self._validate(dict(params))
        run = self._template._replace(id=new_id(), params=text, flight_key=key)
        extras = run.extras
        if extras is None or extras.idempotency_key is None:
            return run
        project = run.project_id.hex if run.project_id else "-"
        digest = request_digest(project, run.job_type, params, stated(self._options))
        return run._replace(extras=extras._replace(request=digest))

    def check_part(self, params: Mapping[str, Any]) -> None:
        """Whether these can be a part of the params of a run, to which others are added. Raises ValidationError."""
        jsonio.dumps(dict(params), what="params", limit=limits.PARAMS_BYTES)
        if self._spec is not None:
            self._spec.check_part(dict(params))
        elif self._kind is not None:
            validate_by_schema(self._kind.schema, params, self._kind.name, part=True)

    def _validate(self, params: dict[str, Any]) -> str | None:
        """The single-flight key, from the handler's model where it is installed, else from its schema."""
        if self._spec is not None:
            model = self._spec.parse(params)
            key = self._spec.flight_key(model)
        else:
            assert self._kind is not None  # noqa: S101  one of the two is known, see __init__
            validate_by_schema(self._kind.schema, params, self._kind.name)
            key = _remote_flight_key(self._kind)
        return None if key is None else self._flight_key(key)

    def _flight_key(self, key: str) -> str:
        project = self._template.project_id.hex if self._template.project_id else "-"
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32] if key else ""
        return f"{project}:{self._template.job_type}:{digest}"

    def _checked(self, job_type: str) -> NewRun:
        """The parts of the run that do not depend on its params."""
        options, session = self._options, self._session
        facts = self._spec or self._kind
        assert facts is not None  # noqa: S101  see __init__
        if facts.scope == "system" and not session.own_schedules:
            raise Forbidden(f"{job_type} is a system job type; it runs on its own schedule only")
        if facts.scope == "project" and session.project is None:
            raise ValidationError(
                f"{job_type} runs inside a project; name one with --project", field="project"
            )
        attempts = _default(facts, "max_attempts") if options.max_attempts is None else options.max_attempts
        seconds = _default(facts, "timeout_s") if options.timeout is None else options.timeout.total_seconds()
        priority = limits.PRIORITY_DEFAULT if options.priority is None else options.priority
        return NewRun(
            # Each run gets one of its own.
            id=NO_ID,
            team_id=session.scope.team_id,
            project_id=session.project.id if session.project and facts.scope == "project" else None,
            job_type=job_type,
            params="{}",
            name=checked_name(options.name or facts.title),
            category=facts.category,
            queue=limits.DEFAULT_QUEUE if options.queue is None else checked_queue(options.queue),
            priority=checked_priority(priority),
            trigger_type=TriggerType.DELAYED if options.delay or options.at else TriggerType.IMMEDIATE,
            triggered_by=clean(options.triggered_by or f"manual:{session.actor}", limits.NAME_CHARS),
            due_at=options.at,
            delay=checked_due(options.delay, options.at),
            max_attempts=ranged("max_attempts", attempts, limits.MAX_ATTEMPTS_MIN, limits.MAX_ATTEMPTS_MAX),
            timeout_s=checked_timeout(float(seconds or 0)),
            parent_run_id=options.parent_run_id,
            lineage_depth=options.lineage_depth,
            notify=options.notify,
            tags=tags_json(options.tags),
            metadata=metadata_json(options.metadata),
            debug_mode=options.debug_mode,
            extras=announced(
                extras_of(options, single_flight=bool(_default(facts, "single_flight"))),
                options,
                session.http_allow,
            ),
        )


def _default(facts: HandlerSpec | JobType, name: str) -> Any:
    if isinstance(facts, JobType):
        return facts.defaults.get(name)
    return facts.timeout.total_seconds() if name == "timeout_s" else getattr(facts, name)


def _remote_flight_key(kind: JobType) -> str | None:
    # The function that narrows the key lives in a package that is not installed here: the widest key, which stands
    # against every other one of the type.
    return "" if kind.defaults.get("single_flight") else None


def validate_by_schema(
    schema: Mapping[str, Any], params: Mapping[str, Any], of: str, *, part: bool = False
) -> None:
    """Params, or a part of them, against a JSON Schema, `of` whom it is. Raises ValidationError with one line."""
    # Only for types whose package is not installed here: a worker, which has them all, does not carry it.
    import jsonschema
    from referencing import Registry

    # With a registry that has nothing a `$ref` to another host is unknown, instead of fetched.
    validator = jsonschema.Draft202012Validator(dict(schema), registry=Registry())
    try:
        errors = sorted(validator.iter_errors(params), key=lambda error: list(map(str, error.absolute_path)))
    except Exception as error:
        # What a stranger's schema can do: refer to nothing or to itself, or hold a pattern that is none.
        words = clean(f"{type(error).__name__}: {error}", 160)
        raise ValidationError(f"the schema of {of} cannot be used: {words}", field="params") from None
    errors = [error for error in errors if not (part and error.validator == "required")]
    if errors:
        lines = [
            f"{'.'.join(map(str, e.absolute_path)) or 'params'}: {clean(e.message, 160)}" for e in errors[:5]
        ]
        raise ValidationError(f"params of {of}: " + "; ".join(lines), field="params")
