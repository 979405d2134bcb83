"""The lines above the list: who and where, the status groups with their counts, the filter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jobdeck.states import GROUPS
from jobdeck_tui.render.progress import short_count
from jobdeck_tui.render.spans import Line, Span, cut_line, joined, line_width, safe, spread

GROUP_NAMES = ("all", *GROUPS)


@dataclass(frozen=True, slots=True)
class Freshness:
    """How true the screen is. `stale_s` is None while the last look at the database succeeded."""

    loaded: bool = False
    stale_s: int | None = None


@dataclass(frozen=True, slots=True)
class Fleet:
    """Live workers, and how many run something; None while unknown."""

    workers: int | None = None
    running: int = 0


def title_line(team: str, project: str | None, fleet: Fleet, fresh: Freshness, width: int) -> Line:
    """`jobdeck  team acme  project web            2 workers  live`."""
    left: list[Span] = [(" jobdeck ", "title"), (f" team {safe(team, 40)}", "strong")]
    if project:
        left.append((f"  project {safe(project, 40)}", "text"))
    return spread(tuple(left), (*joined([_workers(fleet), _freshness(fresh)]), (" ", "text")), width)


def _workers(fleet: Fleet) -> Line:
    if fleet.workers is None:
        return ()
    if fleet.workers == 0:
        return (("! no worker", "warn"),)
    return ((f"{fleet.workers} worker{'s' if fleet.workers != 1 else ''}", "text"),)


def _freshness(fresh: Freshness) -> Line:
    if fresh.stale_s is not None:
        return ((f"! stale {fresh.stale_s} s - retrying", "bad"),)
    return (("live", "good"),) if fresh.loaded else (("reading …", "dim"),)


def group_line(counts: Mapping[str, int] | None, selected: str | None, width: int) -> Line:
    """`[1 all 128]  2 pending 3 …`: the groups with their keys; none is in brackets under another filter."""
    for gap, short, digits in (
        ("  ", False, 4),
        (" ", False, 4),
        (" ", True, 4),
        (" ", True, 3),
        (" ", False, 0),
    ):
        parts = [_group(key, name, counts, selected, short, digits) for key, name in _NUMBERED]
        line = joined(parts, gap)
        if line_width(line) + 1 <= width:
            break
    return cut_line(((" ", "text"), *line), width)


_NUMBERED = tuple(enumerate(GROUP_NAMES, 1))
_SHORT = {"completed": "done", "cancelled": "stopped"}
"""Words for narrow terminals: counts say more than long names."""


def _group(
    key: int, name: str, counts: Mapping[str, int] | None, selected: str | None, short: bool, digits: int
) -> Line:
    word = _SHORT.get(name, name) if short else name
    count = f" {short_count(count_of(name, counts), digits)}" if counts is not None and digits else ""
    if name == selected:
        return ((f"[{key} {word}{count}]", "strong"),)
    return ((str(key), "key"), (f" {word}{count}", "text"))


def count_of(name: str, counts: Mapping[str, int]) -> int:
    """How many runs a group has, by the counts of the stored statuses."""
    if name == "all":
        return sum(counts.values())
    return sum(counts.get(status, 0) for status in GROUPS[name])


def filter_line(text: str, position: Line, width: int) -> Line:
    """The filter that is in force, always shown, and where the list stands."""
    if not text:
        return spread(((" filter ", "dim"), ("none", "dim"), ("  / to filter", "dim")), position, width)
    return spread(((" filter ", "dim"), (safe(text), "chip")), position, width)


@dataclass(frozen=True, slots=True)
class Position:
    """Where a list stands. `first` is the number of its top row, from 1; None where nobody knows."""

    first: int | None
    shown: int
    total: int
    exact: bool = True
    """`total` is all of them, not only those known so far."""
    new: int = 0
    new_more: bool = False
    frozen: bool = False
    searched_to: str = ""
    """How far back has been searched, while that is not the end of the list."""


def position_line(at: Position) -> Line:
    """`^ 37 new, g to go  frozen, F follows  41-58 of >600`."""
    parts: list[Line] = []
    if at.new or at.new_more:
        parts.append(((f"^ {at.new}{'+' if at.new_more else ''} new, g to go", "warn"),))
    if at.frozen:
        parts.append((("frozen, F follows", "warn"),))
    if at.searched_to:
        parts.append(((f"searched back to {at.searched_to}", "dim"),))
    if at.shown and at.first is not None:
        total = f"{'' if at.exact else '>'}{at.total}"
        parts.append(((f"{at.first}-{at.first + at.shown - 1} of {total}", "dim"),))
    elif at.shown:
        parts.append((("oldest runs", "dim"),))
    return (*joined(parts), (" ", "text")) if parts else ()
