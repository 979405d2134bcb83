"""What handlers say, made fit to be stored: secrets masked first, while they are whole, then made inert, then cut."""

from __future__ import annotations

import math
from typing import Any

from jobdeck.secret import redact
from jobdeck.text import clean, cut_bytes

_KEY_CHARS = 64


def safe_line(text: str, limit: int) -> str:
    """One line of at most `limit` characters."""
    return clean(redact(text), limit)


def safe_text(text: str, limit: int) -> str:
    """Lines of together at most `limit` bytes."""
    # One character more than fits keeps the mark of a cut, and a text of 100 MB is not looked at to its end.
    return cut_bytes(clean(redact(text)[: limit + 1], lines=True), limit)


def masked(value: Any) -> Any:
    """A JSON value with the secrets in its texts, keys and numbers masked."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {redact(key): masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [masked(item) for item in value]
    return _masked_number(value)


def inert(value: Any) -> Any:
    """A JSON value as a field of a log line: masked, its texts and keys made inert."""
    if isinstance(value, str):
        return clean(redact(value), lines=True)
    if isinstance(value, dict):
        return {safe_line(str(key), _KEY_CHARS): inert(item) for key, item in value.items()}
    if isinstance(value, list):
        return [inert(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return _masked_number(value)


def _masked_number(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    text = str(value)
    shown = redact(text)
    return value if shown == text else shown
