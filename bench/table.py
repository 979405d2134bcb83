"""The table of docs/performance.md, and its place between the two markers there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.results import Other, Role, Row, Values
from bench.stats import spread

BEGIN = "<!-- written by scripts/bench: begin -->"
END = "<!-- written by scripts/bench: end -->"
_HEAD = ("what", "unit", "jobdeck", "peer", "bare storage", "jobdeck / other", "target", "met")


def table(rows: Iterable[Row]) -> str:
    """Rows as a Markdown table."""
    lines = [_line(_HEAD), _line(["---"] * len(_HEAD))]
    lines += [_line(_cells(row)) for row in rows]
    return "\n".join(lines) + "\n"


def _cells(row: Row) -> Sequence[str]:
    return (
        row.what + (f" ({row.note})" if row.note else ""),
        row.unit,
        shown(row.ours),
        _those(row, ("peer",)),
        _those(row, ("bare", "jobdeck")),
        _joined(f"{shown(row.ratio(other))} x {other.name}" for other in row.others),
        _joined(goal.text for goal in row.goals),
        _joined(f"{'yes' if goal.met else 'NO'}: {shown(goal.values)}" for goal in row.goals),
    )


def _those(row: Row, roles: tuple[Role, ...]) -> str:
    return _joined(_other(other) for other in row.others if other.role in roles)


def _other(other: Other) -> str:
    return f"{other.name}: {shown(other.values)}"


def _joined(parts: Iterable[str]) -> str:
    return "<br>".join(parts) or "-"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def shown(values: Values) -> str:
    """`median (lowest-highest)`, in as many digits as the noise leaves a meaning."""
    if not values:
        return "-"
    found = spread(values)
    if len(values) == 1:
        return number(found.median)
    return f"{number(found.median)} ({number(found.low)}-{number(found.high)})"


def number(value: float) -> str:
    """Three digits or so: 12,345 / 123 / 12.3 / 1.23 / 0.012."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 0.1 or not size:
        return f"{value:.2f}"
    return f"{value:.3f}"


def replace_between_markers(document: Path, text: str) -> None:
    """Put `text` in the place of what stands between the markers. Raises ValueError where they are missing."""
    before, begin, rest = document.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{document} has no place for the table: {BEGIN} and {END} are missing")
    document.write_text(f"{before}{BEGIN}\n\n{text.strip()}\n\n{END}{after}")
