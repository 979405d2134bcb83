"""What all JSON of the command line is made of: ids, times, spans, errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from jobdeck.cli import human
from jobdeck.clock import to_us
from jobdeck.ids import show_id

Json = dict[str, Any]

MILLISECOND = timedelta(milliseconds=1)
_in_milliseconds: ContextVar[bool] = ContextVar("times_in_milliseconds", default=False)


@contextmanager
def times_in_milliseconds() -> Iterator[None]:
    """Within the block times are numbers: milliseconds since 1970."""
    token = _in_milliseconds.set(True)
    try:
        yield
    finally:
        _in_milliseconds.reset(token)


def iso(moment: datetime | None) -> str | int | None:
    """A time: ISO 8601 in UTC with milliseconds, or a number."""
    if moment is None or not _in_milliseconds.get():
        return human.iso(moment)
    return to_us(moment) // 1_000


def error_json(details: Mapping[str, object]) -> Json:
    """What `--json` prints on stderr instead of `error: …`."""
    return {"error": dict(details)}


def id_text(kind: str, value: UUID | None) -> str | None:
    """An id as it is shown."""
    return None if value is None else show_id(kind, value)


def milliseconds(span: timedelta | None) -> int | None:
    """A span in whole milliseconds."""
    return None if span is None else round(span.total_seconds() * 1000)
