"""One run for people: what it is, how it went, what it was given and what it gave. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from jobdeck.cli.human import bar, progress_text, span_text, time_text
from jobdeck.ids import show_id
from jobdeck.model import Attempt, Run, RunEvent
from jobdeck.states import Status
from jobdeck.text import clean

_WIDTH = 12


def detail_text(run: Run, *, stored: bool = True) -> str:
    """The record as lines `name  value`; one that is not stored has no id that could be asked for."""
    first = [_line("run", run.shown_id)] if stored else []
    return "\n".join([*first, *_facts(run), *_attempts(run), *_documents(run)])


def _facts(run: Run) -> Iterator[str]:
    yield _line("name", f"{run.name} ({run.job_type})")
    yield _line("status", run.label if run.label == run.status else f"{run.label} ({run.status})")
    if run.held_reason:
        yield _line("waits for", run.held_reason)
    counts = "  ".join(
        part for part in (bar(run.progress), progress_text(run.progress), run.progress.message) if part
    )
    if counts:
        yield _line("progress", counts)
    yield _line("team", f"{run.team} / {run.project}" if run.project else run.team)
    yield _line("queue", f"{run.queue}, priority {run.priority}")
    yield _line(
        "attempts", f"{run.attempt}, {run.failures} of {run.max_attempts} failures, {run.crash_count} crashes"
    )
    yield _line("made", f"{time_text(run.created_at)} by {run.triggered_by}")
    yield from _lineage(run)
    if run.due_at > run.created_at:
        yield _line("due", time_text(run.due_at))
    if run.expires_at and not run.started_at:
        yield _line("expires", time_text(run.expires_at))
    yield from _approval(run)
    for wait in run.waits:
        state = "waits" if wait.open else "waited"
        yield _line("after", f"{state} for {show_id('run', wait.run_id)} ({wait.condition})")
    if run.started_at:
        yield _line("started", time_text(run.started_at))
    if run.finished_at:
        took = f", took {span_text(run.duration)}" if run.duration else ""
        yield _line("finished", time_text(run.finished_at) + took)
    if run.pinned:
        yield _line("pinned", "kept for good")
    if run.cancel_requested_at:
        why = f": {run.cancel_reason}" if run.cancel_reason else ""
        yield _line("cancel", f"asked {time_text(run.cancel_requested_at)} by {run.cancel_requested_by}{why}")
    if run.error:
        kind = f"{run.failure_kind}: " if run.failure_kind else ""
        yield _line("error", kind + run.error)
    if run.actions:
        yield _line("allowed", ", ".join(run.actions))


def _lineage(run: Run) -> Iterator[str]:
    if run.job:
        where = f", environment {run.environment}" if run.environment else ""
        yield _line("job", f"{run.job} version {run.job_version}{where}")
    if run.continuation_of:
        yield _line("again", f"continues {show_id('run', run.continuation_of)}")
    if run.batch_id:
        yield _line("batch", show_id("bat", run.batch_id))
    if run.parent_run_id:
        yield _line("parent", show_id("run", run.parent_run_id))
    for kin in run.parents:
        yield _line("started by", f"{show_id('run', kin.run_id)} of {kin.job}")
    for kin in run.children:
        yield _line("has started", f"{show_id('run', kin.run_id)} of {kin.job}")
    for name, key in (
        ("idempotency", run.idempotency_key),
        ("dedupe", run.dedupe_key),
        ("concurrency", run.concurrency_key),
    ):
        if key:
            yield _line(name, key)


def _approval(run: Run) -> Iterator[str]:
    if run.approved_at:
        yield _line("approval", f"given {time_text(run.approved_at)} by {run.approved_by}")
    elif run.requires_approval:
        yield _line("approval", "needed" if run.status == Status.AWAITING_APPROVAL else "not given")


def _attempts(run: Run) -> Iterator[str]:
    for attempt in run.attempts:
        yield _line(f"attempt {attempt.attempt}", _attempt(attempt))
        if attempt.trace:
            yield _line("", trace_text(attempt))


def _attempt(attempt: Attempt) -> str:
    span = attempt.duration or datetime.now(UTC) - attempt.started_at
    words = f"{attempt.outcome or 'running'} on {attempt.worker} after {span_text(span)}"
    return f"{words}: {attempt.error}" if attempt.error else words


def trace_text(attempt: Attempt) -> str:
    """What an attempt spent its time on, in milliseconds."""
    spans = {name: span / timedelta(milliseconds=1) for name, span in attempt.trace.items()}
    return "  ".join(f"{name} {span:.1f} ms" for name, span in spans.items())


def _documents(run: Run) -> Iterator[str]:
    for name, value in (("tags", run.tags), ("params", run.params), ("result", run.result)):
        if value:
            yield _line(name, json.dumps(value, ensure_ascii=False, indent=2))
    if run.traceback:
        yield _line("traceback", run.traceback)


def _line(name: str, value: str) -> str:
    return f"{name:<{_WIDTH}}{clean(value, lines=True)}"


def events_text(events: Sequence[RunEvent]) -> str:
    """The history of a run, a line for each fact."""
    return "\n".join(_line("event", _event(event)) for event in events)


def _event(event: RunEvent) -> str:
    facts = ", ".join(f"{name} {value}" for name, value in event.data.items())
    return f"{time_text(event.at)} {event.kind} by {event.actor}" + (f": {facts}" if facts else "")
