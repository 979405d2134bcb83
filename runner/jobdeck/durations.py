"""Durations as people write them (`30s`, `5m`, `1h`, `7d`) and the points in time they lead to."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from jobdeck.errors import ValidationError

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
# Twelve digits are the longest duration there is, in milliseconds.
_PATTERN = re.compile(r"^(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h|d)$")
_MAX_DAYS = 3_660
MIN_YEAR = 1970
MAX_YEAR = 9998
"""A year less than Python's last one: no zone can move a time out of what a datetime holds."""


def parse_duration(text: str | float | timedelta) -> timedelta:
    """`30s`, `5m`, `1h`, `1d`, `250ms`; a bare number is seconds. Raises ValidationError."""
    if isinstance(text, timedelta):
        return text
    if isinstance(text, int | float) and not isinstance(text, bool):
        return _bounded(float(text), text)
    found = _PATTERN.match(str(text).strip())
    if found is None:
        raise ValidationError(f"{str(text)[:40]!r} is not a duration; write it like 30s, 5m, 1h or 1d")
    return _bounded(float(found[1]) * _UNITS[found[2]], text)


def _bounded(seconds: float, text: object) -> timedelta:
    if not 0 <= seconds <= _MAX_DAYS * 86_400:
        raise ValidationError(
            f"{str(text)[:40]!r} is out of range; a duration lies between 0s and {_MAX_DAYS}d"
        )
    return timedelta(seconds=seconds)


def format_duration(value: timedelta | float) -> str:
    """The shortest exact way to write it: `90s`, `5m`, `1d`, `250ms`."""
    span = value if isinstance(value, timedelta) else timedelta(seconds=value)
    microseconds = span // timedelta(microseconds=1)
    if microseconds == 0:
        return "0s"
    for unit in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(microseconds, round(_UNITS[unit] * 1_000_000))
        if rest == 0:
            return f"{count}{unit}"
    return f"{count}.{rest:03d}".rstrip("0") + "ms"


def parse_when(text: str, now: datetime) -> datetime:
    """A point in time: a duration before `now` (`1h`) or ISO 8601 with a zone; no zone means UTC.

    Raises ValidationError for anything else and for years outside 1970-9998.
    """
    if _PATTERN.match(text.strip()):
        return now - parse_duration(text)
    return parse_time(text)


def parse_time(text: str) -> datetime:
    """ISO 8601, in UTC where it names no zone. Raises ValidationError."""
    try:
        value = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValidationError(
            f"{text[:40]!r} is not a time; write it like 2026-01-31T10:30:00Z or, relative, like 1h"
        ) from None
    value = value.replace(tzinfo=UTC) if value.tzinfo is None else value
    if not MIN_YEAR <= value.year <= MAX_YEAR:
        raise ValidationError(f"{text[:40]!r} lies outside the years {MIN_YEAR}-{MAX_YEAR}")
    return value.astimezone(UTC)


def _to_timedelta(value: Any) -> Any:
    try:
        return parse_duration(value)
    except ValidationError as error:
        raise ValueError(str(error)) from None


Duration = Annotated[
    timedelta, BeforeValidator(_to_timedelta), PlainSerializer(format_duration, return_type=str)
]
"""A pydantic field that reads `30s` or seconds and writes `30s`."""
