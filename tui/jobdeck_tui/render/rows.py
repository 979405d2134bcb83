"""One run as one line of the list, and the headings above it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from jobdeck.ids import tail
from jobdeck.model import Run
from jobdeck_tui.render.progress import bar, percent_text
from jobdeck_tui.render.spans import Line, cut, cut_line, fit, safe
from jobdeck_tui.render.states import WORD_CELLS, look
from jobdeck_tui.render.times import age, took

_WIDE = 110
"""From this many cells on a row also shows queue, attempt and duration."""
_NARROW = 60


@dataclass(frozen=True, slots=True)
class Columns:
    """Widths in cells for one width of the list; 0 leaves a column out."""

    type: int
    bar: int
    queue: int
    attempt: int
    took: int
    message: int


def columns(width: int) -> Columns:
    """The columns of a list `width` cells wide. Text of jobs comes last: it can only spoil its own end."""
    wide, narrow = width >= _WIDE, width < _NARROW
    kind = 20 if wide else 12 if narrow else 13
    bar_cells = 12 if wide else 0 if narrow else 5
    queue, attempt, duration = (10, 5, 7) if wide else (0, 0, 0)
    fixed = 3 + WORD_CELLS + 1 + 6 + 1 + kind + 1 + (bar_cells + 1 if bar_cells else 0) + 4 + 1 + 4 + 1
    fixed += sum(cells + 1 for cells in (queue, attempt, duration) if cells)
    return Columns(kind, bar_cells, queue, attempt, duration, max(width - fixed - 1, 0))


def headings(width: int) -> Line:
    """The line above the list."""
    cols = columns(width)
    parts = [fit("   status", 3 + WORD_CELLS), fit("id", 6), fit("type", cols.type)]
    parts.append(fit("progress", cols.bar + 5 if cols.bar else 4))
    parts.append(fit("age", 4, right=True))
    if cols.queue:
        parts += [fit("took", cols.took, right=True), fit("try", cols.attempt), fit("queue", cols.queue)]
    parts.append(cut("message", cols.message))
    return ((cut(" ".join(parts), width), "head"),)


def run_row(run: Run, width: int, now: datetime, *, cursor: bool = False, gone: bool = False) -> Line:
    """The line of a run. `gone`: it no longer matches the filter and is kept so that rows do not jump.

    Few changes of colour: over a slow line each of them costs as much as a column.
    """
    cols = columns(width)
    shown = look(run.label)
    marker = ">" if cursor else "~" if gone else " "
    spans = [
        (marker, shown.role),
        (f"{shown.glyph} {fit(shown.word, WORD_CELLS)} ", shown.role),
        (fit(tail(run.shown_id), 6) + " ", "text"),
        (fit(safe(run.job_type), cols.type) + " ", "text"),
    ]
    if cols.bar:
        spans.append((bar(run.progress, cols.bar) + " ", "busy" if run.label == "running" else "dim"))
    spans.append((fit(percent_text(run.progress), 4, right=True) + " ", "text"))
    spans.append((fit(age(now - run.created_at), 4, right=True) + " ", "text"))
    if cols.queue:
        duration = took(run.duration) if run.duration is not None else ""
        tries = f"{run.attempt}/{run.max_attempts}" if run.attempt else ""
        spans.append((fit(duration, cols.took, right=True) + " ", "text"))
        spans.append((fit(tries, cols.attempt) + " ", "text"))
        spans.append((fit(safe(run.queue), cols.queue) + " ", "text"))
    spans.append((cut(row_message(run, now), cols.message), "text"))
    return cut_line(tuple((text, "dim" if gone and not cursor else role) for text, role in spans), width)


def row_message(run: Run, now: datetime) -> str:
    """What is worth knowing about this run in one line: the news, then its name where it has one."""
    name = safe(run.name) if _says_more(run.name, run.job_type) else ""
    news = _news(run, now)
    return f"{news} · {name}" if name and news else news or name


def _news(run: Run, now: datetime) -> str:
    said = safe(run.progress.message)
    if run.label == "cancelling" and run.cancel_requested_at is not None:
        since = age(now - run.cancel_requested_at)
        return f"stop asked {since} ago by {safe(run.cancel_requested_by or 'unknown')}"
    if run.label == "held":
        return safe(run.held_reason or "held")
    if run.label in ("scheduled", "retrying"):
        due = f"due in {age(run.due_at - now)}"
        return f"{due} after: {safe(run.error)}" if run.error else due
    if run.label == "awaiting_approval":
        return "waits for approval"
    if run.label in ("failed", "dead", "expired"):
        return safe(run.error or run.failure_kind or "")
    if run.failure_kind in ("rejected", "dependency"):
        return safe(run.error or run.failure_kind)
    if run.label == "cancelled":
        return safe(run.cancel_reason or said or f"by {run.cancel_requested_by or 'unknown'}")
    return said


def _says_more(name: str, job_type: str) -> bool:
    """A name that only repeats the type in other spelling is not worth its cells."""

    def bare(text: str) -> str:
        return re.sub(r"[\W_]+", "", text).lower()

    return bool(name) and bare(name) != bare(job_type)
