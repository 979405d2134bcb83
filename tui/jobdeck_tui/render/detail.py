"""One run in full: the summary above, and the sections below it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from jobdeck.model import Attempt, Run
from jobdeck_tui.render.progress import progress_line
from jobdeck_tui.render.spans import Line, cut_line, fit, joined, safe, spread
from jobdeck_tui.render.states import look, status_spans
from jobdeck_tui.render.times import age, stamp, took

SECTIONS: Final = ("log", "attempts", "params", "result", "error")
SUMMARY_LINES: Final = 7
_TEXT_CHARS: Final = 2_000
_LINES_MAX: Final = 5_000


def summary(run: Run, width: int, now: datetime) -> list[Line]:
    """Exactly `SUMMARY_LINES` lines, so that nothing below jumps when a fact appears."""
    name = () if not run.name or run.name == run.job_type else ((f'"{safe(run.name)}"', "text"),)
    lines = [
        joined([((f" {run.shown_id}", "strong"),), ((safe(run.job_type), "strong"),), name]),
        joined([_lead(status_spans(run.label)), progress_line(run.progress, 20 if width >= 80 else 10)]),
        _news(run, now),
        _lead(joined(_placement(run), "  ")),
        _lead(joined(_times(run, now), "  ")),
        _lead(joined(_people(run), "  ")),
    ]
    shown = [cut_line(line, width) for line in lines]
    return [*shown, *([()] * (SUMMARY_LINES - len(shown)))]


def _lead(line: Line) -> Line:
    return ((" ", "text"), *line)


def _fact(name: str, value: object) -> Line:
    return ((f"{name} ", "dim"), (safe(value), "text"))


def _news(run: Run, now: datetime) -> Line:
    """The one thing about its status that the operator has to know."""
    if run.label == "cancelling" and run.cancel_requested_at is not None:
        since = f"{stamp(run.cancel_requested_at, now)} ({age(now - run.cancel_requested_at)} ago)"
        why = f": {safe(run.cancel_reason)}" if run.cancel_reason else ""
        return ((f" stop asked {since} by {safe(run.cancel_requested_by or 'unknown')}{why}", "warn"),)
    if run.label == "awaiting_approval":
        return ((" waits for approval: look at its params, then decide", "warn"),)
    if run.failure_kind in ("rejected", "dependency"):
        return ((f" {safe(run.error or run.failure_kind)}", "bad"),)
    if run.label == "held":
        return ((f" held: {safe(run.held_reason or 'no reason known')}", "warn"),)
    if run.label in ("scheduled", "retrying"):
        error = f"  last error: {safe(run.error)}" if run.error else ""
        return ((f" due {stamp(run.due_at, now)}, in {age(run.due_at - now)}{error}", "text"),)
    if run.label == "cancelled":
        why = f": {safe(run.cancel_reason)}" if run.cancel_reason else ""
        kind = f" ({safe(run.failure_kind)})" if run.failure_kind else ""
        return ((f" cancelled by {safe(run.cancel_requested_by or 'unknown')}{why}{kind}", "text"),)
    if run.error or run.failure_kind:
        return ((f" {safe(run.failure_kind or 'error')}: {safe(run.error or '')}", "bad"),)
    return ()


def _placement(run: Run) -> list[Line]:
    tries = f"{run.attempt}/{run.max_attempts}" if run.attempt else f"none yet, at most {run.max_attempts}"
    parts = [_fact("team", run.team)]
    if run.project:
        parts.append(_fact("project", run.project))
    parts += [_fact("queue", run.queue), _fact("attempt", tries)]
    if run.crash_count:
        parts.append(_fact("crashes", run.crash_count))
    return parts


def _times(run: Run, now: datetime) -> list[Line]:
    parts = [_fact("made", f"{stamp(run.created_at, now)} ({age(now - run.created_at)} ago)")]
    if run.started_at:
        parts.append(_fact("started", stamp(run.started_at, now)))
    if run.finished_at:
        parts.append(_fact("ended", stamp(run.finished_at, now)))
    if run.duration is not None:
        parts.append(_fact("took", took(run.duration)))
    return parts


def _people(run: Run) -> list[Line]:
    parts = [_fact("by", run.triggered_by)]
    if run.timeout_s:
        parts.append(_fact("timeout", f"{run.timeout_s:g}s"))
    parts.append(_fact("priority", run.priority))
    live = next((attempt for attempt in reversed(run.attempts) if attempt.outcome is None), None)
    if live is not None and live.worker:
        parts.append(_fact("worker", live.worker))
    return parts


def section_bar(run: Run | None, current: str, place: str, width: int) -> Line:
    """The names of the sections, the open one in brackets; at the right end what is held of it."""
    parts: list[Line] = []
    for name in SECTIONS:
        label = f"{name} {len(run.attempts)}" if name == "attempts" and run else name
        if name == current:
            parts.append(((f"[{label}]", "strong"),))
        else:
            parts.append(((f" {label} ", "text" if run and has_section(run, name) else "dim"),))
    return spread(((" ", "text"), *joined(parts, " ")), ((f"{place} ", "dim"),), width)


def has_section(run: Run, name: str) -> bool:
    """Whether a section has anything to show. The log's entries are not part of the run."""
    if name == "log":
        return True
    if name == "attempts":
        return bool(run.attempts)
    if name == "params":
        return bool(run.params)
    return run.result is not None if name == "result" else bool(run.error or run.traceback)


def section_lines(run: Run, name: str, now: datetime) -> list[Line]:
    """The text of a section (not the log); one line that says why where it is empty."""
    if not has_section(run, name):
        return [((f" no {name}{_why_empty(run, name)}", "dim"),)]
    if name == "attempts":
        return [line for attempt in reversed(run.attempts) for line in _attempt(attempt, now)]
    if name == "error":
        return text_lines(
            f"{run.failure_kind or 'error'}: {run.error or ''}\n\n{run.traceback or ''}".rstrip()
        )
    return text_lines(json_text(run.params if name == "params" else run.result))


def _why_empty(run: Run, name: str) -> str:
    if name in ("result", "attempts") and run.finished_at is None:
        return " yet"
    return ""


def _attempt(attempt: Attempt, now: datetime) -> Sequence[Line]:
    shown = look(attempt.outcome or "running")
    duration = (
        took(attempt.duration) if attempt.duration is not None else f"for {age(now - attempt.started_at)}"
    )
    head: Line = (
        (f" {attempt.attempt:>3}  ", "strong"),
        (f"{shown.glyph} {fit(shown.word, 10)} ", shown.role),
        (f" {stamp(attempt.started_at, now)}  {duration:>8}  ", "text"),
        (safe(attempt.worker), "dim"),
    )
    return [head, ((f"      {safe(attempt.error)}", "bad"),)] if attempt.error else [head]


def json_text(value: Any) -> str:
    """JSON for people."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def text_lines(text: str) -> list[Line]:
    """External text as lines, each one inert; very long texts end with a line that says so."""
    lines = text.split("\n")
    shown: list[Line] = [
        ((f" {safe(line.rstrip(chr(13)), _TEXT_CHARS)}", "text"),) for line in lines[:_LINES_MAX]
    ]
    if len(lines) > _LINES_MAX:
        shown.append(((f" … and {len(lines) - _LINES_MAX} more lines", "dim"),))
    return shown
