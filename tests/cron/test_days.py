"""Which days an expression names, against the calendar."""

from __future__ import annotations

import calendar
from collections.abc import Callable
from datetime import date, timedelta

import pytest

from jobdeck.cron.pattern import read_pattern

Rule = Callable[[date], bool]
# From one leap year to the next but one, so that every month begins on every day of the week.
DAYS = [date(2024, 1, 1) + timedelta(days=number) for number in range(9 * 366)]


def _weekday_dates(day: date) -> list[int]:
    """The dates of the month that fall on the same day of the week."""
    column = [week[day.weekday()] for week in calendar.monthcalendar(day.year, day.month)]
    return [number for number in column if number]


def _last(day: date) -> int:
    return max(calendar.monthcalendar(day.year, day.month)[-1])


def _nearest_working_day(wanted: int) -> Rule:
    """By distance: the working days of the month, the nearest first; of two as near there are none."""

    def rule(day: date) -> bool:
        if wanted > _last(day):
            return False
        working = [n for n in range(1, _last(day) + 1) if date(day.year, day.month, n).weekday() < 5]
        return day.day == min(working, key=lambda n: abs(n - wanted))

    return rule


@pytest.mark.parametrize(
    ("days", "rule"),
    [
        ("* * *", lambda day: True),
        ("* * 1-5", lambda day: day.weekday() < 5),
        ("* * 7", lambda day: day.weekday() == 6),
        ("* * FRI-SUN", lambda day: day.weekday() >= 4),
        ("13 * *", lambda day: day.day == 13),
        ("13 * 5", lambda day: day.day == 13 or day.weekday() == 4),
        ("? * 5", lambda day: day.weekday() == 4),
        ("13 * ?", lambda day: day.day == 13),
        ("29 2 1", lambda day: day.month == 2 and (day.day == 29 or day.weekday() == 0)),
        # A star in front makes both necessary, as in Vixie's cron.
        ("*/2 * 1", lambda day: day.day % 2 == 1 and day.weekday() == 0),
        ("1-7 * */6", lambda day: day.day <= 7 and day.weekday() in (5, 6)),
        ("1-31 * 1", lambda day: True),
        ("31 * *", lambda day: day.day == 31),
        ("L * *", lambda day: day.day == _last(day)),
        ("15,L * *", lambda day: day.day in (15, _last(day))),
        ("L 2 *", lambda day: day.month == 2 and day.day == _last(day)),
        ("L * 1", lambda day: day.day == _last(day) or day.weekday() == 0),
        ("* * 5#2", lambda day: day.weekday() == 4 and day.day == _weekday_dates(day)[1]),
        ("* * FRI#5", lambda day: day.weekday() == 4 and _weekday_dates(day)[4:5] == [day.day]),
        ("* * 7#1", lambda day: day.weekday() == 6 and day.day == _weekday_dates(day)[0]),
        ("* * 5L", lambda day: day.weekday() == 4 and day.day == _weekday_dates(day)[-1]),
        ("* * SUNL", lambda day: day.weekday() == 6 and day.day == _weekday_dates(day)[-1]),
        ("* * 1#1,5L", lambda day: (day.weekday(), day.day) in (
            (0, _weekday_dates(day)[0]), (4, _weekday_dates(day)[-1]))),
        ("1 * 5#2", lambda day: day.day == 1 or (day.weekday() == 4 and day.day == _weekday_dates(day)[1])),
        ("1W * *", _nearest_working_day(1)),
        ("15W * *", _nearest_working_day(15)),
        ("29W * *", _nearest_working_day(29)),
        ("31W * *", _nearest_working_day(31)),
        ("15W * 0", lambda day: day.weekday() == 6 or _nearest_working_day(15)(day)),
    ],
)  # fmt: skip
def test_days_equal_the_calendar(days: str, rule: Rule) -> None:
    """Nine years, day by day."""
    found = read_pattern(f"0 0 {days}").days
    assert [day for day in DAYS if found.include(day)] == [day for day in DAYS if rule(day)]
