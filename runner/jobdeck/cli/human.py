"""How the command line writes times, spans and progress for people. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from jobdeck.model import Progress, Run

_STEPS = ((86_400, "d"), (3_600, "h"), (60, "m"))
_BAR = 20


def span_text(span: timedelta) -> str:
    """The two largest units: `3m12s`, `2h5m`, `4d`; below ten seconds with a decimal."""
    seconds = max(span.total_seconds(), 0)
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    for size, unit in _STEPS:
        if whole >= size:
            rest = next((f"{whole % size // small}{name}" for small, name in _finer(size)), "")
            return f"{whole // size}{unit}{'' if rest.startswith('0') else rest}"
    return f"{whole}s"


def _finer(size: int) -> list[tuple[int, str]]:
    return [(small, name) for small, name in (*_STEPS, (1, "s")) if small < size]


def time_text(moment: datetime | None) -> str:
    """ISO 8601 in UTC with milliseconds; empty for None."""
    return iso(moment) or ""


def iso(moment: datetime | None) -> str | None:
    """`2026-01-31T10:30:00.000Z`."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def age_text(run: Run, now: datetime) -> str:
    """How long ago the run was made."""
    return span_text(now - run.created_at)


def progress_text(progress: Progress) -> str:
    """`40/200 20%`, `40` where the total is unknown, empty where nothing was reported."""
    if progress.total:
        return f"{progress.processed}/{progress.total} {percent(progress)}"
    return str(progress.processed) if progress.processed else ""


def percent(progress: Progress) -> str:
    """Whole percents, rounded down, so that 100% means all of it."""
    return f"{int((progress.fraction or 0) * 100)}%"


def bar(progress: Progress) -> str:
    """`[########------------]`; empty where the total is unknown."""
    if progress.fraction is None:
        return ""
    full = int(progress.fraction * _BAR)
    return f"[{'#' * full}{'-' * (_BAR - full)}]"


def run_line(run: Run) -> str:
    """A run in one line: label, bar, counts, message; for a run that waits, why."""
    told = run.held_reason if run.label == "held" else run.progress.message
    parts = (run.label, bar(run.progress), progress_text(run.progress), told or "")
    return "  ".join(part for part in parts if part)
