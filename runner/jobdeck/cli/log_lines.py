"""A log entry as a line for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobdeck.cli.human import time_text
from jobdeck.cli.output import json_text
from jobdeck.model import LogEntry
from jobdeck.text import clean


def entry_text(entry: LogEntry) -> str:
    """`2026-01-31T10:30:00.000Z info  message  key=value`; a message of several lines keeps them, indented."""
    head = f"{time_text(entry.at)} {entry.level:<5} "
    message = clean(entry.message.rstrip("\n"), lines=True).replace("\n", "\n" + " " * len(head))
    fields = fields_text(entry.fields)
    return f"{clean(head)}{message}{'  ' + fields if fields else ''}"


def fields_text(fields: Mapping[str, Any]) -> str:
    """`key=value key="two words"`."""
    return " ".join(f"{clean(key)}={_value(value)}" for key, value in fields.items())


def _value(value: Any) -> str:
    if isinstance(value, str):
        shown = clean(value)
        return shown if shown and " " not in shown and "=" not in shown and '"' not in shown else f'"{shown}"'
    return json_text(value)
