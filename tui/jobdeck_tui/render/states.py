"""How a status looks: a glyph and a word, so that no colour is needed to tell two apart."""

from __future__ import annotations

from typing import Final, NamedTuple

from jobdeck_tui.render.spans import Line, safe


class Look(NamedTuple):
    """`word` has at most 10 cells, the width of the column."""

    glyph: str
    word: str
    role: str


WORD_CELLS: Final = 10

_LOOKS: Final[dict[str, Look]] = {
    "awaiting_approval": Look("?", "approval", "warn"),
    "pending": Look("○", "pending", "text"),
    "scheduled": Look("◦", "scheduled", "dim"),
    "retrying": Look("↻", "retrying", "warn"),
    "held": Look("‖", "held", "warn"),
    "running": Look("●", "running", "busy"),
    "cancelling": Look("◐", "cancelling", "warn"),
    "stalled": Look("!", "stalled", "bad"),
    "parked": Look("◒", "parked", "busy"),
    "completed": Look("✓", "completed", "good"),
    "failed": Look("✗", "failed", "bad"),
    "dead": Look("†", "dead", "bad"),
    "cancelled": Look("■", "cancelled", "dim"),
    "expired": Look("×", "expired", "bad"),
    # Outcomes of attempts that are not also labels of runs.
    "error": Look("✗", "error", "bad"),
    "timed_out": Look("✗", "timed out", "bad"),
    "crashed": Look("†", "crashed", "bad"),
    "abandoned": Look("†", "abandoned", "bad"),
    "interrupted": Look("◦", "interrupt.", "dim"),
    "snoozed": Look("◦", "snoozed", "dim"),
}


def look(label: str) -> Look:
    """The look of a status, a label or an attempt's outcome; an unknown one keeps its own word."""
    return _LOOKS.get(label) or Look("·", safe(label, WORD_CELLS), "text")


def status_spans(label: str) -> Line:
    """`● running`."""
    shown = look(label)
    return ((f"{shown.glyph} {shown.word}", shown.role),)
