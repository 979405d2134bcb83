"""An expression explained before it is saved: in words, with its next fires and what clock changes do to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Final, Literal

from jobdeck.cron.grammar import HOUR, MINUTE, Field
from jobdeck.cron.pattern import Pattern
from jobdeck.cron.schedule import CronSchedule
from jobdeck.cron.wording import describe, listed
from jobdeck.cron.zone import Stretch, stretches, to_instant

_YEAR: Final = timedelta(days=366)
# So many times of day are named in a remark; the rest is counted.
_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class ClockRemark:
    """What a change of the clocks does to the fires of a schedule."""

    at: datetime
    """When the clocks change, UTC."""
    kind: Literal["gap", "overlap"]
    text: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """All there is to say about a schedule before one saves it."""

    expression: str
    timezone: str
    summary: str
    remarks: tuple[str, ...]
    """What is easily read otherwise."""
    clock_remarks: tuple[ClockRemark, ...]
    """The changes of the clocks within a year that touch a fire."""
    fires: tuple[datetime, ...]
    """The next ones, in the schedule's zone."""


def explain(expression: str, timezone: str, now: datetime, count: int = 5) -> Explanation:
    """What the expression means in the zone, with its next `count` fires after `now`.

    Raises ValidationError as CronSchedule and its `check` do.
    """
    schedule = CronSchedule(expression, timezone)
    schedule.check(now)
    clock_remarks, untouched = _clock_changes(schedule, to_instant(now))
    return Explanation(
        expression=schedule.expression,
        timezone=schedule.timezone,
        summary=describe(schedule.pattern),
        remarks=(*_remarks(schedule.pattern), *untouched),
        clock_remarks=clock_remarks,
        fires=tuple(fire.astimezone(schedule.zone) for fire in islice(schedule.fires(now), count)),
    )


def _remarks(pattern: Pattern) -> Iterator[str]:
    days = pattern.days
    if not days.both:
        yield "day-of-month and day-of-week are both given: a day that fits one of them is enough"
    elif len(days.dates) < 31 and len(days.weekdays) < 7:
        yield "a day must fit both day-of-month and day-of-week, because one of the two begins with *"
    minute, hour, *_ = pattern.expression.split()
    yield from _uneven(minute, MINUTE, "hour")
    yield from _uneven(hour, HOUR, "day")
    if days.dates and not days.last_date and min(days.dates) > 28 and (days.both or len(days.weekdays) == 7):
        if days.months == {2}:
            yield "29 February comes in leap years only"
        else:
            yield f"months without a day {min(days.dates)} have no fire"


def _uneven(text: str, part: Field, cycle: str) -> Iterator[str]:
    """A step from a star that does not divide its cycle."""
    step, size = text.removeprefix("*/"), part.end - part.low + 1
    if step != text and step.isdigit() and (rest := size % int(step)):
        unit = f"{rest} {part.name}{'s' if rest > 1 else ''}"
        yield f"{text} begins again every {cycle}, so that the last step is {unit}"


def _clock_changes(schedule: CronSchedule, now: datetime) -> tuple[tuple[ClockRemark, ...], tuple[str, ...]]:
    end = now + _YEAR
    found = [piece for piece in stretches(schedule.zone, now, end) if now < piece.begins <= end]
    changed = [piece for piece in found if piece.opens != piece.reached]
    remarks = [_clock_remark(schedule, piece) for piece in changed]
    touching = tuple(remark for remark in remarks if remark)
    if changed and not touching:
        days = listed(f"{piece.opens:%Y-%m-%d}" for piece in changed)
        return (), (f"the clock changes of the year ahead ({days}) touch none of its fires",)
    return touching, ()


def _clock_remark(schedule: CronSchedule, piece: Stretch) -> ClockRemark | None:
    gap = piece.opens > piece.reached
    low, high = sorted((piece.reached, piece.opens))
    hit = list(schedule.pattern.between(low, high))
    if not hit:
        return None
    change = f"{piece.opens:%Y-%m-%d}: clocks go {'forward' if gap else 'back'}"
    change += f" from {piece.reached:%H:%M} to {piece.opens:%H:%M}; {_named(hit)}"
    one = len(hit) == 1
    if gap:
        says = _in_gap(schedule, piece, one)
    elif schedule.pattern.real_time:
        says = f"{'comes' if one else 'come'} twice and {'fires' if one else 'fire'} both times (real time)"
    else:
        says = f"{'comes' if one else 'come'} twice and {'fires' if one else 'fire'} the first time only"
    return ClockRemark(piece.begins, "gap" if gap else "overlap", f"{change} {says}")


def _in_gap(schedule: CronSchedule, piece: Stretch, one: bool) -> str:
    missing = "does not exist" if one else "do not exist"
    if schedule.pattern.real_time:
        return f"{missing} and {'does' if one else 'do'} not fire (real time)"
    at = piece.begins.astimezone(schedule.zone)
    merged = ", together with the fire of that time" if schedule.pattern.names(piece.opens) else ""
    return f"{missing} and {'fires' if one else 'fire once,'} at {at:%H:%M%z}{merged}"


def _named(times: list[datetime]) -> str:
    words = [f"{time:%H:%M}" for time in times[:_NAMED]]
    if len(times) > _NAMED:
        words.append(f"{len(times) - _NAMED} more")
    return listed(words)
