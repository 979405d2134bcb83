"""Log entries as lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jobdeck.model import LogEntry
from jobdeck_tui.render.spans import Line, safe
from jobdeck_tui.render.times import clock

_MESSAGE_CHARS = 2_000
"""Longest message shown; a line may hold 8 KiB, and `jobdeck runs logs` prints all of it."""
_FIELD_CHARS = 200
_LEVELS = {
    "debug": "dim",
    "info": "text",
    "warn": "warn",
    "warning": "warn",
    "error": "bad",
    "critical": "bad",
}


def log_line(entry: LogEntry) -> Line:
    """`14:03:27 info  synced page  page=3`."""
    role = _LEVELS.get(entry.level.lower(), "text")
    spans = [
        (f"{clock(entry.at)} ", "dim"),
        (f"{safe(entry.level.lower(), 5):<5} ", role),
        (_shortened(entry.message), role),
    ]
    if entry.fields:
        spans.append((f"  {_fields(entry.fields)}", "dim"))
    return tuple(spans)


def _shortened(message: str) -> str:
    missing = len(message) - _MESSAGE_CHARS
    shown = safe(message[:_MESSAGE_CHARS], _MESSAGE_CHARS * 2)
    return f"{shown} … and {missing} more characters" if missing > 0 else shown


def _fields(fields: Mapping[str, Any]) -> str:
    return " ".join(f"{safe(key, 40)}={safe(_value(value), _FIELD_CHARS)}" for key, value in fields.items())


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def attempt_mark(attempt: int) -> Line:
    """The line between the log of one attempt and that of the next."""
    return ((f"--- attempt {attempt} ", "dim"),)
