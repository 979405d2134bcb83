"""The instants at which a pattern fires in a zone: the rule for clock changes, in one place.

Two kinds of patterns, as in Debian's cron and cronsim:

- *real time* (the minute or the hour begins with a star): it fires whenever the clock on the wall shows a named
  minute. What a gap skips does not fire; what an overlap shows twice fires twice.
- *fixed times* (all others): it fires when the wall clock first reaches or passes a named minute. What lies in a gap
  fires once, together, at its end; what an overlap shows again does not fire again.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from itertools import islice
from typing import Final

from jobdeck.cron.pattern import Pattern
from jobdeck.cron.zone import Stretch, stretches

_TICK: Final = timedelta(microseconds=1)
# More than any zone's clocks have ever been moved at once (a day, across the date line).
_LEAD: Final = timedelta(days=2)


def fires_after(
    pattern: Pattern, zone: tzinfo, after: datetime, until: datetime | None = None
) -> Iterator[datetime]:
    """The fires (UTC) after `after`, up to and including `until`, in order."""
    for stretch in stretches(zone, after - _LEAD, until):
        yield from _fires_in(pattern, stretch, after, until)


def latest_fires(
    pattern: Pattern, zone: tzinfo, after: datetime, until: datetime, most: int
) -> list[datetime]:
    """The last `most` fires (UTC) after `after`, up to and including `until`, in order.

    Looks from the end, so that the cost is that of the fires given, not of those there were.
    """
    found = (
        fire
        for stretch in reversed(list(stretches(zone, after - _LEAD, until)))
        for fire in _fires_in(pattern, stretch, after, until, backwards=True)
    )
    return list(islice(found, max(most, 0)))[::-1]


def _fires_in(
    pattern: Pattern, stretch: Stretch, after: datetime, until: datetime | None, *, backwards: bool = False
) -> Iterator[datetime]:
    opens = stretch.opens
    first = opens if pattern.real_time else max(opens, stretch.reached)
    moved = after < stretch.begins and not (until and until < stretch.begins) and _moved(pattern, stretch)
    if moved:
        # Both together are one fire.
        first += _TICK
    if after >= stretch.begins:
        first = max(first, stretch.local(after) + _TICK)
    end = stretch.closes if until is None else min(stretch.closes, stretch.local(until) + _TICK)
    if moved and not backwards:
        yield stretch.begins
    for local in pattern.between(first, end, backwards=backwards) if first < end else ():
        yield stretch.instant(local)
    if moved and backwards:
        yield stretch.begins


def _moved(pattern: Pattern, stretch: Stretch) -> bool:
    """Whether a fixed time lies in the gap before this stretch."""
    if pattern.real_time or stretch.reached >= stretch.opens:
        return False
    return any(True for _ in pattern.between(stretch.reached, stretch.opens))
