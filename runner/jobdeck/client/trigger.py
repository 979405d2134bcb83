"""From a request to a validated `NewRun`: every limit is checked here, before anything is stored."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from jobdeck import jsonio, limits
from jobdeck.client.session import Session
from jobdeck.durations import MAX_YEAR, MIN_YEAR
from jobdeck.errors import Forbidden, UnknownJobType, ValidationError
from jobdeck.ids import new_id
from jobdeck.model import JobType, NewRun
from jobdeck.spec import HandlerSpec
from jobdeck.text import clean


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a trigger may state beside type and params; None takes the job type's own default."""

    queue: str | None = None
    priority: int | None = None
    delay: timedelta | None = None
    at: datetime | None = None
    max_attempts: int | None = None
    timeout: timedelta | None = None
    name: str | None = None
    tags: Mapping[str, str] | None = None
    metadata: Mapping[str, Any] | None = None
    notify: bool = False
    debug_mode: bool = False
    parent_run_id: UUID | None = None
    triggered_by: str | None = None


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
                f"no worker or installed package knows the job type {clean(job_type, 128)!r}; "
                "see: jobdeck types list",
                field="job_type",
            )
        self._kind = registered if self._spec is None else None
        self._template = self._checked(job_type)

    def build(self, params: Mapping[str, Any]) -> NewRun:
        """One run with these params. Raises ValidationError."""
        text = jsonio.dumps(dict(params), what="params", limit=limits.PARAMS_BYTES)
        key = self._validate(dict(params))
        return self._template._replace(id=new_id(), params=text, flight_key=key)

    def _validate(self, params: dict[str, Any]) -> str | None:
        """The single-flight key, from the handler's model where it is installed, else from its schema."""
        if self._spec is not None:
            model = self._spec.parse(params)
            key = self._spec.flight_key(model)
        else:
            assert self._kind is not None  # noqa: S101  one of the two is known, see __init__
            _validate_by_schema(self._kind, params)
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
        if facts.scope == "system":
            raise Forbidden(f"{job_type} is a system job type; it runs on its own schedule only")
        if facts.scope == "project" and session.project is None:
            raise ValidationError(
                f"{job_type} runs inside a project; name one with --project", field="project"
            )
        return NewRun(
            id=new_id(),
            team_id=session.scope.team_id,
            project_id=session.project.id if session.project and facts.scope == "project" else None,
            job_type=job_type,
            params="{}",
            name=_name(options.name or facts.title),
            category=facts.category,
            queue=_queue(options.queue),
            priority=_ranged("priority", options.priority, limits.PRIORITY_DEFAULT, 1, limits.PRIORITY_MAX),
            trigger_type="delayed" if options.delay or options.at else "immediate",
            triggered_by=clean(options.triggered_by or f"manual:{session.actor}", limits.NAME_CHARS),
            due_at=options.at,
            delay=_delay(options),
            max_attempts=_ranged(
                "max_attempts",
                options.max_attempts,
                _default(facts, "max_attempts"),
                1,
                limits.MAX_ATTEMPTS_MAX,
            ),
            timeout_s=_timeout(options.timeout, facts),
            parent_run_id=options.parent_run_id,
            notify=options.notify,
            tags=_tags(options.tags),
            metadata=_metadata(options.metadata),
            debug_mode=options.debug_mode,
        )


def _default(facts: HandlerSpec | JobType, name: str) -> Any:
    if isinstance(facts, JobType):
        return facts.defaults.get(name)
    return facts.timeout.total_seconds() if name == "timeout_s" else getattr(facts, name)


def _remote_flight_key(kind: JobType) -> str | None:
    # The function that narrows the key lives in a package that is not installed here: the widest key, which stands
    # against every other one of the type.
    return "" if kind.defaults.get("single_flight") else None


def _validate_by_schema(kind: JobType, params: dict[str, Any]) -> None:
    # Only for types whose package is not installed here: a worker, which has them all, does not carry it.
    import jsonschema

    validator = jsonschema.Draft202012Validator(dict(kind.schema))
    errors = sorted(validator.iter_errors(params), key=lambda error: list(map(str, error.absolute_path)))
    if errors:
        lines = [
            f"{'.'.join(map(str, e.absolute_path)) or 'params'}: {clean(e.message, 160)}" for e in errors[:5]
        ]
        raise ValidationError(f"params of {kind.name}: " + "; ".join(lines), field="params")


def _name(name: str) -> str:
    if len(name) > limits.NAME_CHARS:
        raise ValidationError(
            f"a name has at most {limits.NAME_CHARS} characters, not {len(name)}", field="name"
        )
    return clean(name)


def _queue(queue: str | None) -> str:
    if queue is None:
        return limits.DEFAULT_QUEUE
    if not re.fullmatch(limits.QUEUE_PATTERN, queue):
        raise ValidationError(
            f"queue {clean(queue, 60)!r} may have letters, digits, '-' and '_', at most {limits.QUEUE_CHARS}",
            field="queue",
        )
    return queue


def _ranged(name: str, value: int | None, default: int | None, low: int, high: int) -> int:
    chosen = default if value is None else value
    if chosen is None or not low <= chosen <= high:
        raise ValidationError(f"{name} lies between {low} and {high}, not {chosen}", field=name)
    return chosen


def _delay(options: RunOptions) -> timedelta | None:
    if options.delay is not None and options.at is not None:
        raise ValidationError("give either a delay or a time, not both", field="delay")
    if options.delay is not None and not 0 <= options.delay.total_seconds() <= limits.DELAY_MAX:
        raise ValidationError("a delay lies between 0s and 366d", field="delay")
    if options.at is not None and options.at.tzinfo is None:
        raise ValidationError("a time needs a time zone", field="at")
    if options.at is not None and not MIN_YEAR <= options.at.year <= MAX_YEAR:
        raise ValidationError(f"a time lies in the years {MIN_YEAR}-{MAX_YEAR}", field="at")
    return options.delay


def _timeout(timeout: timedelta | None, facts: HandlerSpec | JobType) -> float:
    seconds = float(_default(facts, "timeout_s") or 0) if timeout is None else timeout.total_seconds()
    if not 0 <= seconds <= limits.TIMEOUT_MAX:
        raise ValidationError(f"a timeout lies between 0s (none) and {limits.TIMEOUT_MAX}s", field="timeout")
    return seconds


def _tags(tags: Mapping[str, str] | None) -> str | None:
    if not tags:
        return None
    if len(tags) > limits.TAGS or any(len(part) > limits.TAG_CHARS for pair in tags.items() for part in pair):
        raise ValidationError(
            f"at most {limits.TAGS} tags of at most {limits.TAG_CHARS} characters each", field="tags"
        )
    return jsonio.dumps(
        {clean(key): clean(value) for key, value in tags.items()}, what="tags", limit=limits.METADATA_BYTES
    )


def _metadata(metadata: Mapping[str, Any] | None) -> str | None:
    if not metadata:
        return None
    return jsonio.dumps(dict(metadata), what="metadata", limit=limits.METADATA_BYTES)
