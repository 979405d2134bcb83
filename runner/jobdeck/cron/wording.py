"""A pattern in one line of plain English, from the values it names: `0,30` and `*/30` read alike."""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

from jobdeck.cron.grammar import DAY, HOUR, MINUTE, MONTH, WEEKDAY, Field
from jobdeck.cron.pattern import Days, Pattern

# So many times, minutes or days are listed; more are described.
_LISTED: Final = 6
_WEEKDAYS: Final = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_PLACES: Final = ("first", "second", "third", "fourth", "fifth")


def describe(pattern: Pattern) -> str:
    """`At 02:30, Monday to Friday`; without the zone and without what happens when clocks change."""
    times, days = _times(pattern), _days(pattern.days)
    if not days and times.startswith("At ") and "hour" not in times:
        days = "every day"
    return ", ".join(part for part in (times, days) if part)


def _times(pattern: Pattern) -> str:
    minutes, hours = sorted(pattern.minutes), sorted(pattern.hours)
    rhythm = _rhythm(minutes)
    run = len(minutes) > 2 and _is_run(minutes) and not _is_all(minutes, MINUTE)
    if len(pattern.day_minutes) <= _LISTED and not (run and len(hours) == 1):
        return f"At {listed(clock(minute) for minute in pattern.day_minutes)}"
    if len(minutes) == 1:
        return _hourly(minutes[0], hours)
    if rhythm and (_is_all(hours, HOUR) or _is_run(hours)):
        return _over(rhythm, pattern.day_minutes, all_day=_is_all(hours, HOUR))
    if run and len(hours) == 1:
        return _over("Every minute", pattern.day_minutes, all_day=False)
    if rhythm:
        return f"{rhythm} in {_hours(hours)}"
    step = _step(minutes)
    if run or (step and len(minutes) > _LISTED):
        every = "Every minute" if run else f"Every {step} minutes"
        return f"{every} from :{minutes[0]:02} to :{minutes[-1]:02} of {_hours(hours)}"
    return f"At minutes {listed(map(str, minutes))} of {_hours(hours)}"


def _rhythm(minutes: Sequence[int]) -> str | None:
    """`Every 15 minutes` where they go on like that from the full hour to the next."""
    step = _step(minutes)
    if step is None or minutes[0] != MINUTE.low or minutes[-1] + step <= MINUTE.end:
        return None
    if step == 1:
        return "Every minute"
    return f"Every {step} minutes" + (" of each hour" if (MINUTE.end + 1) % step else "")


def _over(rhythm: str, day_minutes: Sequence[int], *, all_day: bool) -> str:
    if all_day:
        return rhythm
    return f"{rhythm} from {clock(day_minutes[0])} to {clock(day_minutes[-1])}"


def _hourly(minute: int, hours: Sequence[int]) -> str:
    place = "on the hour" if minute == 0 else f"at minute {minute}"
    step = _step(hours)
    if step and step * len(hours) == HOUR.end + 1:
        return f"Every {'hour' if step == 1 else f'{step} hours'}, {place}"
    if _is_run(hours):
        return f"Every hour from {clock(60 * hours[0] + minute)} to {clock(60 * hours[-1] + minute)}"
    return f"At {listed(clock(60 * hour + minute) for hour in hours)}"


def _hours(hours: Sequence[int]) -> str:
    if _is_all(hours, HOUR):
        return "every hour"
    if len(hours) > 1 and _is_run(hours):
        return f"each hour from {hours[0]:02} to {hours[-1]:02}"
    return f"the hour{'s' if len(hours) > 1 else ''} {listed(f'{hour:02}' for hour in hours)}"


def _days(days: Days) -> str:
    dates, weekdays, months = _dates(days), _weekdays(days), _months(days)
    if not days.both and (not dates or not weekdays):
        # One of the two fits every day, and one is enough.
        dates = weekdays = ""
    in_months = f" {'from' if ' to ' in months else 'in'} {months}" if months else ""
    of_month = f"of {months or 'the month'}"
    if not dates and weekdays.startswith("the "):
        return f"on {weekdays} {of_month}"
    if not dates:
        return f"{weekdays or 'every day'}{in_months}" if weekdays or months else ""
    if weekdays and days.both:
        return f"on {dates} {of_month}, if that is {weekdays.removeprefix('every ').replace(' and ', ' or ')}"
    if weekdays:
        place = "on " if weekdays.startswith("the ") else ""
        return f"on {dates} {of_month} and also {place}{weekdays}{in_months}"
    if len(days.months) == len(days.dates) == 1 and not days.last_date:
        return f"on {min(days.dates)} {months}"
    return f"on {dates} {of_month}"


def _months(days: Days) -> str:
    months = sorted(days.months)
    if _is_all(months, MONTH):
        return ""
    if _is_run(months) and len(months) > 2:
        return f"{calendar.month_name[months[0]]} to {calendar.month_name[months[-1]]}"
    return listed(calendar.month_name[month] for month in months)


def _dates(days: Days) -> str:
    if days.nearest_weekday is not None:
        return f"the working day nearest to day {days.nearest_weekday}"
    dates = sorted(days.dates)
    if _is_all(dates, DAY):
        return ""
    last = ["the last day"] if days.last_date else []
    if not dates:
        return last[0]
    step = _step(dates)
    if step and len(dates) > (2 if step == 1 else _LISTED):
        every = {1: "", 2: "every 2nd of ", 3: "every 3rd of "}.get(step, f"every {step}th of ")
        numbers = f"{every}days {dates[0]} to {dates[-1]}"
    else:
        numbers = f"day{'s' if len(dates) > 1 else ''} {listed(map(str, dates))}"
    return listed([numbers, *last])


def _weekdays(days: Days) -> str:
    placed = [(day, _PLACES[place - 1]) for day, place in sorted(days.places)]
    placed += [(day, "last") for day in sorted(days.last_weekdays)]
    if placed:
        return listed(f"the {place} {_WEEKDAYS[day]}" for day, place in placed)
    if _is_all(sorted(days.weekdays), WEEKDAY):
        return ""
    # A week as people say it begins on Monday.
    week = sorted(day or 7 for day in days.weekdays)
    if _is_run(week) and len(week) > 2:
        return f"{_WEEKDAYS[week[0]]} to {_WEEKDAYS[week[-1] % 7]}"
    return f"every {listed(_WEEKDAYS[day % 7] for day in week)}"


def _is_all(values: Sequence[int], part: Field) -> bool:
    return len(values) == part.end - part.low + 1


def _is_run(values: Sequence[int]) -> bool:
    return values[-1] - values[0] == len(values) - 1


def _step(values: Sequence[int]) -> int | None:
    """The distance of values that are equally far from each other."""
    distances = {after - before for before, after in pairwise(values)}
    return distances.pop() if len(distances) == 1 else None


def clock(minute: int) -> str:
    """`02:30` for the 150th minute of a day."""
    return f"{minute // 60:02}:{minute % 60:02}"


def listed(words: Iterable[str]) -> str:
    """`a, b and c`."""
    *head, last = words
    return f"{', '.join(head)} and {last}" if head else last
