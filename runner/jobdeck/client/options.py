"""What a trigger may state beside type and params, and the limits of each of them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from jobdeck import jsonio, limits
from jobdeck.durations import MAX_YEAR, MIN_YEAR, format_duration
from jobdeck.errors import ValidationError
from jobdeck.model import RunExtras
from jobdeck.retry import Backoff, checked
from jobdeck.states import Condition, OnConflict
from jobdeck.text import clean, quoted


@dataclass(frozen=True, slots=True)
class RunOptions:
    """None takes the job type's own default."""

    queue: str | None = None
    priority: int | None = None
    delay: timedelta | None = None
    at: datetime | None = None
    ttl: timedelta | None = None
    """How long it may wait; one that has not begun by then is `expired`."""
    max_attempts: int | None = None
    timeout: timedelta | None = None
    backoff: Backoff | None = None
    name: str | None = None
    tags: Mapping[str, str] | None = None
    metadata: Mapping[str, Any] | None = None
    notify: bool = False
    """E-mail when it completes or fails."""
    callback_url: str | None = None
    """https URL that is told of its end, with its result."""
    debug_mode: bool = False
    requires_approval: bool = False
    after: Sequence[tuple[UUID, Condition]] = ()
    """Runs of the team whose end it waits for."""
    idempotency_key: str | None = None
    """For 24 hours the same request with this key is the same run."""
    dedupe_key: str | None = None
    """While a run of the type with this key is active, or for `dedupe_window`, there is no second one."""
    dedupe_window: timedelta | None = None
    on_conflict: OnConflict | None = None
    concurrency_key: str | None = None
    """Runs of one job with the same key run one after the other, or as many at a time as the job says."""
    continuation_of: UUID | None = None
    parent_run_id: UUID | None = None
    lineage_depth: int = 0
    triggered_by: str | None = None


_NOT_ASKED: Final = ("idempotency_key", "triggered_by", "continuation_of", "parent_run_id", "lineage_depth")
"""What may differ between two requests that are the same."""
_KEYED: Final = ("replace", "queue_latest")


def stated(options: RunOptions) -> str:
    """What the options ask for, in one form that does not depend on the order in which it was said."""
    given = {
        field.name: _in_order(value)
        for field in fields(RunOptions)
        if field.name not in _NOT_ASKED
        and (value := getattr(options, field.name)) != field.default
        # Whether it is left out or given as nothing is a matter of who asks, not of what is asked.
        and value not in ({}, [])
    }
    return repr(sorted(given.items()))


def _in_order(value: Any) -> str:
    if isinstance(value, Mapping):
        return json.dumps(dict(value), sort_keys=True)
    return repr(tuple(value) if isinstance(value, list) else value)


def request_digest(project: str, job_type: str, params: Mapping[str, Any], options: str) -> str:
    """Digest of a whole request, `options` as `stated` has them."""
    text = f"{project}\n{job_type}\n{_in_order(params)}\n{options}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def extras_of(options: RunOptions, *, single_flight: bool) -> RunExtras | None:
    """What few runs have; None where nothing of it is asked for. Raises ValidationError."""
    check_lineage(options.lineage_depth)
    extras = RunExtras(
        ttl=_ttl(options),
        requires_approval=options.requires_approval,
        idempotency_key=_key("idempotency_key", options.idempotency_key),
        dedupe_key=_key("dedupe_key", options.dedupe_key),
        dedupe_window=_window(options),
        on_conflict=_on_conflict(options, single_flight),
        continuation_of=options.continuation_of,
        backoff=None if options.backoff is None else json.dumps(checked(options.backoff).facts()),
        after=_after(options.after),
        concurrency_key=_key("concurrency_key", options.concurrency_key),
    )
    return None if extras == RunExtras() else extras


def _ttl(options: RunOptions) -> timedelta | None:
    ttl = options.ttl
    if ttl is None:
        return None
    if not 0 < ttl.total_seconds() <= limits.TTL_MAX:
        raise ValidationError(
            f"a time to live is more than 0s and at most 366d, not {format_duration(ttl)}", field="ttl"
        )
    if options.delay is not None and options.delay >= ttl:
        raise ValidationError("its time to live would be over before it is due", field="ttl")
    return ttl


def _key(name: str, value: str | None) -> str | None:
    if value is None:
        return None
    if not 0 < len(value) <= limits.KEY_CHARS or value != clean(value):
        raise ValidationError(
            f"{name} has 1 to {limits.KEY_CHARS} printable characters, not {len(value)}", field=name
        )
    return value


def _window(options: RunOptions) -> timedelta | None:
    window = options.dedupe_window
    if window is None:
        return None
    if options.dedupe_key is None:
        raise ValidationError("a dedupe window needs a dedupe key", field="dedupe_window")
    if not 0 < window.total_seconds() <= limits.DEDUPE_WINDOW_MAX:
        raise ValidationError(
            f"a dedupe window is more than 0s and at most 366d, not {format_duration(window)}",
            field="dedupe_window",
        )
    return window


def _on_conflict(options: RunOptions, single_flight: bool) -> OnConflict | None:
    if options.on_conflict is None:
        return None
    try:
        mode = OnConflict(options.on_conflict)
    except ValueError:
        known = ", ".join(OnConflict)
        raise ValidationError(
            f"on_conflict is one of {known}, not {quoted(str(options.on_conflict), 40)}", field="on_conflict"
        ) from None
    active_key = options.dedupe_key is not None and options.dedupe_window is None
    if mode in _KEYED and not (single_flight or active_key):
        raise ValidationError(
            f"{mode} needs a type with single flight, or a dedupe key without a window", field="on_conflict"
        )
    return mode


def _after(after: Sequence[tuple[UUID, Condition]]) -> tuple[tuple[UUID, Condition], ...]:
    if len(after) > limits.AFTER_RUNS:
        raise ValidationError(
            f"a run waits for at most {limits.AFTER_RUNS} others, not {len(after)}", field="after"
        )
    if len({run_id for run_id, _ in after}) < len(after):
        raise ValidationError("a run to wait for is named once", field="after")
    return tuple(after)


def check_lineage(depth: int) -> None:
    """Raises ValidationError where runs have made runs for too many generations."""
    if depth > limits.LINEAGE_MAX:
        raise ValidationError(
            f"this would be generation {depth} of child runs, and {limits.LINEAGE_MAX} are allowed; "
            "does a handler start itself?",
            field="parent_run_id",
        )


def checked_name(name: str) -> str:
    """A name for people. Raises ValidationError."""
    if len(name) > limits.NAME_CHARS:
        raise ValidationError(
            f"a name has at most {limits.NAME_CHARS} characters, not {len(name)}", field="name"
        )
    return clean(name)


def checked_queue(queue: str) -> str:
    """The name of a queue. Raises ValidationError."""
    if not re.fullmatch(limits.QUEUE_PATTERN, queue):
        raise ValidationError(
            f"queue {quoted(queue, 60)} may have letters, digits, '-' and '_', at most {limits.QUEUE_CHARS}, "
            f"not {len(queue):,} characters",
            field="queue",
        )
    return queue


def ranged(name: str, value: int | None, low: int, high: int) -> int:
    """A number between two others, both included. Raises ValidationError."""
    if value is None or not low <= value <= high:
        raise ValidationError(f"{name} lies between {low} and {high}, not {value}", field=name)
    return value


def checked_priority(priority: int) -> int:
    """Raises ValidationError."""
    return ranged("priority", priority, limits.PRIORITY_MIN, limits.PRIORITY_MAX)


def checked_due(delay: timedelta | None, at: datetime | None) -> timedelta | None:
    """The delay, where the two say one due time. Raises ValidationError."""
    if delay is not None and at is not None:
        raise ValidationError("give either a delay or a time, not both", field="delay")
    if delay is not None and not 0 <= delay.total_seconds() <= limits.DELAY_MAX:
        raise ValidationError(
            f"a delay lies between 0s and 366d, not {format_duration(delay)}", field="delay"
        )
    if at is not None and at.tzinfo is None:
        raise ValidationError("a time needs a time zone", field="at")
    if at is not None and not MIN_YEAR <= at.year <= MAX_YEAR:
        raise ValidationError(f"a time lies in the years {MIN_YEAR}-{MAX_YEAR}", field="at")
    return delay


def checked_timeout(seconds: float) -> float:
    """Raises ValidationError."""
    if not 0 <= seconds <= limits.TIMEOUT_MAX:
        raise ValidationError(
            f"a timeout lies between 0s (none) and {limits.TIMEOUT_MAX}s, not {seconds:g}s", field="timeout"
        )
    return seconds


def tags_json(tags: Mapping[str, str] | None) -> str | None:
    """Tags as they are stored. Raises ValidationError."""
    if not tags:
        return None
    longest = max(len(part) for pair in tags.items() for part in pair)
    if len(tags) > limits.TAGS or longest > limits.TAG_CHARS:
        raise ValidationError(
            f"at most {limits.TAGS} tags of at most {limits.TAG_CHARS} characters each, "
            f"not {len(tags):,} of up to {longest:,}",
            field="tags",
        )
    inert = {clean(key): clean(value) for key, value in tags.items()}
    return jsonio.dumps(inert, what="tags", limit=limits.TAGS_BYTES)


def metadata_json(metadata: Mapping[str, Any] | None) -> str | None:
    """Metadata as they are stored. Raises ValidationError."""
    if not metadata:
        return None
    return jsonio.dumps(dict(metadata), what="metadata", limit=limits.METADATA_BYTES)


def checked_reason(reason: str | None) -> str | None:
    """Why somebody does something. Raises ValidationError."""
    if reason is None:
        return None
    if len(reason) > limits.REASON_CHARS:
        raise ValidationError(
            f"a reason has at most {limits.REASON_CHARS} characters, not {len(reason):,}", field="reason"
        )
    return clean(reason)
