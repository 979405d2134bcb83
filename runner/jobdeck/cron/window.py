"""When the runs of a job may start: the minutes that an expression names."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from jobdeck.cron.pattern import Pattern, read_pattern
from jobdeck.cron.schedule import refuse_distant
from jobdeck.cron.timeline import fires_after
from jobdeck.cron.zone import find_zone, to_instant


class ExecutionWindow:
    """Open during each minute that the expression names, from its first to its last microsecond, and closed else.

    `* 9-17 * * 1-5` is open from 09:00 to 17:59 on working days. `0 9-17 * * 1-5` is open for nine single minutes a
    day, 09:00, 10:00 and so on: `narrow` tells the two apart. A window follows the clock on the wall: minutes that a
    gap skips do not open it, minutes that an overlap repeats open it twice.

    Raises ValidationError: field `cron` for the expression, field `timezone` for the zone.
    """

    def __init__(self, expression: str, timezone: str = "UTC") -> None:
        self.pattern: Pattern = replace(read_pattern(expression), real_time=True)
        self.zone = find_zone(timezone)

    def is_open(self, moment: datetime) -> bool:
        """Whether runs may start in the minute of this moment."""
        return self.pattern.names(to_instant(moment).astimezone(self.zone).replace(tzinfo=None))

    def next_open(self, moment: datetime) -> datetime:
        """The moment itself (UTC) while it is open, else the beginning of the next minute that is."""
        if self.is_open(moment):
            return to_instant(moment)
        return next(fires_after(self.pattern, self.zone, to_instant(moment)))

    @property
    def narrow(self) -> str | None:
        """A warning where hardly any minute of an hour is open; None where at least two in a row are."""
        minutes = self.pattern.minutes
        if any((minute + 1) % 60 in minutes for minute in minutes):
            return None
        wide = " ".join(["*", *self.pattern.expression.split()[1:]])
        return f"it is open for single minutes only; {wide} is open for the whole hours"

    def check(self, now: datetime) -> None:
        """Refuse what does not open within five years. Raises ValidationError (field `cron`)."""
        refuse_distant(self.next_open(now), now, "opens")
