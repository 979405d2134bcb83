"""Progress as text. Whole percents only: a bar that moves by less is not repainted."""

from __future__ import annotations

from jobdeck.model import Progress
from jobdeck_tui.render.spans import Line, safe

_FULL, _EMPTY = "█", "░"


def percent(progress: Progress) -> int | None:
    """Whole percents, rounded down so that 100 means all of it; None while the total is unknown."""
    fraction = progress.fraction
    if fraction is None:
        return None
    return max(0, min(int(fraction * 100), 100))


def bar(progress: Progress, width: int) -> str:
    """A bar of exactly `width` cells; blank where nothing is known."""
    share = percent(progress)
    if share is None:
        return " " * width
    filled = share * width // 100
    return _FULL * filled + _EMPTY * (width - filled)


def percent_text(progress: Progress) -> str:
    """`62%`, or the count alone while the total is unknown, in at most 4 cells."""
    share = percent(progress)
    if share is not None:
        return f"{share}%"
    return short_count(progress.processed) if progress.processed else ""


def short_count(count: int, cells: int = 4) -> str:
    """A count in at most 4 (or 3) cells: `0`, `999`, `1.2k`, `110k`, `3.4M`; in 3: `1k`, `99k`, `.1M`."""
    if count < 1_000:
        return str(count)
    for size, unit in ((10**3, "k"), (10**6, "M"), (10**9, "G")):
        whole, tenths = count // size, count * 10 // size % 10
        if whole == 0:
            return f".{tenths}{unit}"
        if whole < 10 and cells > 3:
            return f"{whole}.{tenths}{unit}"
        if whole < 10 ** (cells - 1):
            return f"{whole}{unit}"
    return ">" + "9" * (cells - 2) + "G"


def counts_text(progress: Progress) -> str:
    """`180/290 failed 2 skipped 20`."""
    total = f"/{progress.total}" if progress.total is not None else ""
    parts = [f"{progress.processed}{total}"] if progress.processed or total else []
    if progress.failed:
        parts.append(f"failed {progress.failed}")
    if progress.skipped:
        parts.append(f"skipped {progress.skipped}")
    return " ".join(parts)


def progress_line(progress: Progress, width: int) -> Line:
    """Bar, percents, counts and message for the detail view."""
    out: list[tuple[str, str]] = []
    if percent(progress) is not None:
        out += [(bar(progress, width), "busy"), (f" {percent_text(progress)}", "strong")]
    for text, role in ((counts_text(progress), "text"), (safe(progress.message), "text")):
        if text:
            out.append((("  " if out else "") + text, role))
    return tuple(out)
