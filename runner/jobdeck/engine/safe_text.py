"""What handlers say, made fit to be stored: secrets masked first, while they are whole, then made inert, then cut."""

from __future__ import annotations

import math
from typing import Any

from jobdeck.secret import hides, masked_number, redact
from jobdeck.secret.names import MASK
from jobdeck.text import clean, cut_bytes

_KEY_CHARS = 64


def safe_line(text: str, limit: int) -> str:
    """One line of at most `limit` characters."""
    return clean(redact(text, cut=True), limit)


def safe_text(text: str, limit: int) -> str:
    """Lines of together at most `limit` bytes."""
    # One character more than fits keeps the mark of a cut, and a text of 100 MB is not looked at to its end.
    return cut_bytes(clean(redact(text, cut=True)[: limit + 1], lines=True), limit)


def inert(value: Any) -> Any:
    """A JSON value as a field of a log line: masked by value and by name, its texts and keys made inert."""
    if isinstance(value, str):
        return clean(redact(value, cut=True), lines=True)
    if isinstance(value, dict):
        return {
            safe_line(str(key), _KEY_CHARS): MASK if hides(key, item) else inert(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [inert(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return masked_number(value)
