"""The minutes that an expression names, as wall-clock times without a zone."""

from __future__ import annotations

import calendar
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Final

from croniter import croniter

from jobdeck.cron.grammar import DAY, HOUR, MINUTE, MONTH, WEEKDAY, Field, checked, wrong

_MINUTE: Final = timedelta(minutes=1)
# Within 28 years that leave out no leap year, every date has fallen on every day of the week it can fall on.
_CYCLE: Final = range(2001, 2029)
_SATURDAY: Final = 5


@dataclass(frozen=True, slots=True)
class Days:
    """The days of an expression. Days of the week are counted from Sunday, 0."""

    months: frozenset[int]
    dates: frozenset[int]
    last_date: bool
    nearest_weekday: int | None
    weekdays: frozenset[int]
    places: frozenset[tuple[int, int]]
    last_weekdays: frozenset[int]
    both: bool
    """Whether a day has to fit both the day-of-month and the day-of-week, or one of them is enough.

    Both where one of the two fields begins with a star, as in Vixie's cron (DOM_STAR, DOW_STAR in its entry.c).
    """

    def include(self, day: date) -> bool:
        """Whether the expression fires on this day."""
        if day.month not in self.months:
            return False
        if self.both:
            return self._fits_date(day) and self._fits_weekday(day)
        return self._fits_date(day) or self._fits_weekday(day)

    def _fits_date(self, day: date) -> bool:
        if self.nearest_weekday is not None:
            return day.day == _nearest_weekday(day.year, day.month, self.nearest_weekday)
        return day.day in self.dates or (self.last_date and day.day == _length(day.year, day.month))

    def _fits_weekday(self, day: date) -> bool:
        weekday = day.isoweekday() % 7
        if weekday in self.weekdays or (weekday, (day.day + 6) // 7) in self.places:
            return True
        return weekday in self.last_weekdays and day.day + 7 > _length(day.year, day.month)


@dataclass(frozen=True, slots=True)
class Pattern:
    """What an expression names: on which days, at which minutes of the day."""

    expression: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days: Days
    real_time: bool
    """Whether the minute or the hour begins with a star: then it fires at real minutes, whatever the clocks do.

    The rule of Debian's cron (MIN_STAR, HR_STAR in its entry.c) and of cronsim: the first character of the field
    decides, so that `*/15` is real time, and `0-59/15` and `7,*/15` are fixed times.
    """
    day_minutes: tuple[int, ...]
    """Minutes after midnight, in order."""

    def names(self, local: datetime) -> bool:
        """Whether the minute in which this wall-clock time lies is one of them."""
        return local.minute in self.minutes and local.hour in self.hours and self.days.include(local.date())

    def between(self, first: datetime, end: datetime, *, backwards: bool = False) -> Iterator[datetime]:
        """The named minutes from `first` on and before `end`, in order of time or against it."""
        for day in self._days(first.date(), end.date(), backwards):
            midnight = datetime.combine(day, time())
            low = (
                bisect_left(self.day_minutes, -((midnight - first) // _MINUTE)) if day == first.date() else 0
            )
            high = (
                bisect_left(self.day_minutes, -((midnight - end) // _MINUTE)) if day == end.date() else None
            )
            minutes: Sequence[int] = self.day_minutes[low:high]
            for minute in reversed(minutes) if backwards else minutes:
                yield midnight + minute * _MINUTE

    def _days(self, first: date, last: date, backwards: bool) -> Iterator[date]:
        months = range(first.year * 12 + first.month - 1, last.year * 12 + last.month)
        for month in reversed(months) if backwards else months:
            year, number = month // 12, month % 12 + 1
            if number not in self.days.months:
                continue
            days = range(1, _length(year, number) + 1)
            for day in (date(year, number, day) for day in (reversed(days) if backwards else days)):
                if first <= day <= last and self.days.include(day):
                    yield day


@lru_cache(maxsize=1024)
def read_pattern(expression: str) -> Pattern:
    """Parse an expression. Raises ValidationError (field `cron`) where it is wrong or no date can ever fit."""
    fields = checked(expression)
    try:
        parsed = croniter(" ".join(fields), 0.0)
    except ValueError as error:
        raise wrong(f"{expression}: {error}") from error
    minute, hour, day, month, weekday = parsed.expanded
    places = parsed.nth_weekday_of_month
    nearest = min(parsed.nearest_weekday, default=None)
    days = Days(
        months=_values(month, MONTH),
        dates=frozenset() if nearest else _values(day, DAY),
        last_date="l" in day,
        nearest_weekday=nearest,
        weekdays=_values(weekday, WEEKDAY).difference(places),
        places=frozenset((day, place) for day, found in places.items() for place in found if place != "l"),
        last_weekdays=frozenset(day for day, found in places.items() if "l" in found),
        both=fields[2].startswith("*") or fields[4].startswith("*"),
    )
    _refuse_impossible(days)
    minutes, hours = _values(minute, MINUTE), _values(hour, HOUR)
    return Pattern(
        expression=" ".join(expression.split()),
        minutes=minutes,
        hours=hours,
        days=days,
        real_time=fields[0].startswith("*") or fields[1].startswith("*"),
        day_minutes=tuple(sorted(60 * hour + minute for hour in hours for minute in minutes)),
    )


def _values(expanded: Sequence[int | str], part: Field) -> frozenset[int]:
    if list(expanded) == ["*"]:
        return frozenset(range(part.low, part.end + 1))
    return frozenset(value for value in expanded if isinstance(value, int))


def _refuse_impossible(days: Days) -> None:
    months = sorted(days.months)
    lengths = {month: max(_length(year, month) for year in (2000, 2001)) for month in months}
    first = min(days.dates, default=days.nearest_weekday or 1)
    if days.both and not days.last_date and first > max(lengths.values()):
        named = ", ".join(calendar.month_name[month] for month in months)
        raise wrong(f"it never fires: {named} {'has' if len(months) == 1 else 'have'} no day {first}")
    dates = (date(y, m, d) for y in _CYCLE for m in months for d in range(1, _length(y, m) + 1))
    if not any(days.include(day) for day in dates):
        raise wrong(
            "it never fires: no date fits both its day-of-month and its day-of-week, and a field that begins with "
            "* makes both necessary; write the days without *"
        )


def _length(year: int, month: int) -> int:
    return calendar.monthrange(year, month)[1]


def _nearest_weekday(year: int, month: int, day: int) -> int | None:
    """The Monday to Friday nearest to a day, in the same month; None in months without that day."""
    length = _length(year, month)
    if day > length:
        return None
    weekday = date(year, month, day).weekday()
    if weekday < _SATURDAY:
        return day
    if weekday == _SATURDAY:
        return day - 1 if day > 1 else day + 2
    return day + 1 if day < length else day - 2
