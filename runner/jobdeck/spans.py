"""What an attempt spends its time on, and how that is kept: microseconds in a JSON list, for it stands in every row.

The list has the spans of `MEASURED` in their order, and last, where the handler named phases of its own, those by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

MEASURED: Final = ("queue_wait", "claim", "load", "handler", "commit")
TOTAL: Final = "total"
RESERVED: Final = frozenset({*MEASURED, TOTAL})
"""Names that no handler can give a phase."""


def packed(
    queue_wait: int, claim: int, load: int, handler: int, commit: int, phases: Mapping[str, int]
) -> str:
    """As it is kept."""
    # Numbers of ours alone: nothing to escape, and this is done for every attempt.
    text = f"[{queue_wait},{claim},{load},{handler},{commit}"
    return f"{text},{json.dumps(phases)}]" if phases else f"{text}]"


def unpacked(text: str) -> dict[str, int]:
    """By name. Empty where the text is not one of `packed`: whoever may write to the database may write anything."""
    try:
        spans = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return {}
    if not isinstance(spans, list) or len(spans) < len(MEASURED):
        return {}
    phases = spans[len(MEASURED)] if len(spans) > len(MEASURED) and isinstance(spans[-1], dict) else {}
    found = {**phases, **dict(zip(MEASURED, spans, strict=False))}
    return found if all(type(span) is int and abs(span) < 1 << 53 for span in found.values()) else {}
