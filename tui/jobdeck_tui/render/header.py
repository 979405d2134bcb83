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
    return spread(tuple(left), joined([_workers(fleet), _freshness(fresh), ((" ", "text"),)], "  "), width)


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
    count = f" {short_count(_count(name, counts), digits)}" if counts is not None and digits else ""
    if name == selected:
        return ((f"[{key} {word}{count}]", "strong"),)
    return ((str(key), "key"), (f" {word}{count}", "text"))


def _count(name: str, counts: Mapping[str, int]) -> int:
    if name == "all":
        return sum(counts.values())
    return sum(counts.get(status, 0) for status in GROUPS[name])


def filter_line(text: str, width: int) -> Line:
    """The filter that is in force, always shown."""
    if not text:
        return cut_line(((" filter ", "dim"), ("none", "dim"), ("  / to filter", "dim")), width)
    return spread(((" filter ", "dim"), (safe(text), "chip")), (("esc clears ", "dim"),), width)


def position_line(
    first: int | None, shown: int, loaded: int, complete: bool, *, new: int, new_more: bool, frozen: bool
) -> Line:
    """Where the list stands: `^ 37 new  frozen  41-58 of >600`. `first` is the number of the top row, from 1."""
    parts: list[Line] = []
    if new:
        parts.append(((f"^ {new}{'+' if new_more else ''} new, g to go", "warn"),))
    if frozen:
        parts.append((("frozen, F follows", "warn"),))
    if shown and first is not None:
        known = first - 1 + loaded if not complete else loaded
        total = str(known) if complete else f">{known}"
        parts.append(((f"{first}-{first + shown - 1} of {total} ", "dim"),))
    elif shown:
        parts.append((("oldest runs ", "dim"),))
    return joined(parts)
