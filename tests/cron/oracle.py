"""Two other ways to say when an expression fires, to hold jobdeck's against.

`walked` is written from the rule of Debian's cron and goes through time minute by minute, as its daemon does.
`simulated` is cronsim, which states the same policy. Neither knows croniter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from cronsim import CronSim

_MINUTE = timedelta(minutes=1)
_DAY = 24 * 60
# The wall clock stands at 0 here; days are counted as date.toordinal() does.
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
# By minute of the day: the expressions, and the days on which each fires.
_Jobs = defaultdict[int, list[tuple[str, Callable[[int], bool]]]]


@dataclass(frozen=True)
class Named:
    """What an expression names: sets, and the four flags that Debian's cron takes from a first star."""

    minutes: frozenset[int]
    hours: frozenset[int]
    dates: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    both_days: bool
    wild: bool

    def on(self, ordinal: int) -> bool:
        """Whether it fires on a day."""
        day = date.fromordinal(ordinal)
        by_date, by_weekday = day.day in self.dates, day.isoweekday() % 7 in self.weekdays
        fits = (by_date and by_weekday) if self.both_days else (by_date or by_weekday)
        return day.month in self.months and fits


def parse(expression: str) -> Named:
    """Numbers, ranges, steps and lists; enough for the tests, and not shared with the code under test."""
    minute, hour, day, month, weekday = expression.split()
    return Named(
        _values(minute, 0, 59),
        _values(hour, 0, 23),
        _values(day, 1, 31),
        _values(month, 1, 12),
        frozenset(number % 7 for number in _values(weekday, 0, 6)),
        both_days=day[0] == "*" or weekday[0] == "*",
        wild=minute[0] == "*" or hour[0] == "*",
    )


def _values(text: str, low: int, high: int) -> frozenset[int]:
    found: set[int] = set()
    for item in text.split(","):
        span, _, step = item.partition("/")
        first, _, last = (f"{low}-{high}" if span == "*" else span).partition("-")
        found.update(range(int(first), int(last or first) + 1, int(step or 1)))
    return frozenset(found)


def walked(
    expressions: Iterable[str], zone: ZoneInfo, begin: datetime, end: datetime
) -> dict[str, list[datetime]]:
    """The fires of each expression after `begin` and up to `end`, by looking at the wall clock every minute.

    The daemon's rule, in its words: fixed-time jobs run as the virtual time passes their minute, at once for all
    minutes that were missed, and not again until the wall clock has caught up with the virtual time; wildcard jobs
    run by the wall clock alone. What runs twice in one minute counts once: a schedule has one fire at a time.
    """
    wild: _Jobs = defaultdict(list)
    fixed: _Jobs = defaultdict(list)
    named = {expression: parse(expression) for expression in expressions}
    for expression, names in named.items():
        on = cache(names.on)
        for minute in (60 * hour + minute for hour in names.hours for minute in names.minutes):
            (wild if names.wild else fixed)[minute].append((expression, on))
    fires: dict[str, list[datetime]] = {expression: [] for expression in named}
    virtual = None
    for now, wall in _wall_clock(zone, begin - timedelta(days=2), end):
        passed = range(wall if virtual is None else virtual + 1, wall + 1)
        due = [entry for minute in passed for entry in _due(fixed, minute)] + _due(wild, wall)
        if due and (instant := _EPOCH + now * _MINUTE) > begin:
            for expression in dict.fromkeys(due):
                fires[expression].append(instant)
        virtual = wall if virtual is None else max(virtual, wall)
    return fires


def _due(jobs: _Jobs, wall: int) -> list[str]:
    return [name for name, on in jobs.get(wall % _DAY, ()) if on(_EPOCH_DAY + wall // _DAY)]


def _wall_clock(zone: ZoneInfo, begin: datetime, end: datetime) -> Iterator[tuple[int, int]]:
    """Each minute of real time up to `end`, with the minute that the wall clock shows; both counted from 1970."""
    offset = 0
    for now in range((begin - _EPOCH) // _MINUTE, (end - _EPOCH) // _MINUTE + 1):
        # Zones have changed their clocks at quarters of an hour only, ever since they have had whole minutes.
        if now % 15 == 0 or not offset:
            offset = ((_EPOCH + now * _MINUTE).astimezone(zone).utcoffset() or timedelta(0)) // _MINUTE
        yield now, now + offset


def simulated(expression: str, zone: ZoneInfo, begin: datetime, end: datetime) -> list[datetime]:
    """The fires after `begin` and up to `end` as cronsim has them."""
    found: list[datetime] = []
    for local in CronSim(expression, begin.astimezone(zone)):
        fire = local.astimezone(UTC)
        if fire > end:
            break
        found.append(fire)
    return found


def changes_of(zone: ZoneInfo, first_year: int, last_year: int) -> list[datetime]:
    """Moments of these years less than six hours after a change of the offset."""
    begin, step = datetime(first_year, 1, 1, tzinfo=UTC), timedelta(hours=6)
    moments = [begin + number * step for number in range(4 * 366 * (last_year + 1 - first_year))]
    offsets = [moment.astimezone(zone).utcoffset() for moment in moments]
    return [moments[at] for at in range(1, len(moments)) if offsets[at] != offsets[at - 1]]
