"""The help, made from the one list of actions."""

from __future__ import annotations

from collections.abc import Sequence

from jobdeck_tui.actions import TOPICS, Topic
from jobdeck_tui.render.spans import Line, fit
from jobdeck_tui.render.states import look

_KEY_CELLS = 22
_MEANINGS = (
    ("pending", "waits for a worker"),
    ("scheduled", "first try is due later"),
    ("retrying", "next try is due later"),
    ("held", "due, but something stops it; the line says what"),
    ("running", "a worker has it"),
    ("cancelling", "asked to stop, has not stopped yet"),
    ("stalled", "its worker lives, the handler does not move"),
    ("completed", "done"),
    ("failed", "ended by an error, no further try"),
    ("dead", "all tries used up"),
    ("cancelled", "stopped on request"),
    ("expired", "was not started in time"),
)


def help_lines(topics: Sequence[Topic] = TOPICS) -> list[Line]:
    """Keys by topic, then the statuses, then the filter language."""
    out: list[Line] = []
    for topic in topics:
        out += [((topic.title, "head"),)]
        for action in topic.actions:
            out.append(((fit(f"  {action.shown_keys}", _KEY_CELLS), "key"), (f" {action.help}", "text")))
        out.append(())
    out.append((("Statuses", "head"),))
    for label, meaning in _MEANINGS:
        shown = look(label)
        out.append(((fit(f"  {shown.glyph} {shown.word}", _KEY_CELLS), shown.role), (f" {meaning}", "text")))
    out += [(), (("Filter", "head"),), *_FILTER]
    return out


_FILTER: tuple[Line, ...] = tuple(
    ((fit(f"  {form}", _KEY_CELLS), "key"), (f" {meaning}", "text"))
    for form, meaning in (
        ("status:failed,dead", "these statuses; !status:… all but these"),
        ("group:failed", "failed, dead and expired together"),
        ("type:NAME queue:NAME", "also category:NAME and project:NAME"),
        ("since:1h until:10m", "made in that time; or 2026-01-31T10:30:00Z"),
        ('"two words" or word', "part of the type, the name or the message"),
    )
)
