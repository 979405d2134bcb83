"""When a job fires: an expression in a time zone, each fire later by a share of the jitter that is the job's own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from hashlib import blake2b
from itertools import takewhile

from jobdeck import limits
from jobdeck.cron.grammar import wrong
from jobdeck.cron.pattern import Pattern, read_pattern
from jobdeck.cron.timeline import fires_after, latest_fires
from jobdeck.cron.zone import find_zone, to_instant
from jobdeck.errors import ValidationError


class CronSchedule:
    """The fires of a cron expression. All moments must have a zone (else ValueError); all fires are in UTC.

    `jitter` (seconds) moves all fires by the same delay, taken from a hash of `key`: schedules of one minute with
    different keys spread over the jitter, and one schedule keeps its distance everywhere and for ever.

    Raises ValidationError: field `cron` for an expression that is wrong or that no date fits, field `timezone` for an
    unknown zone, field `jitter` for one out of range.
    """

    def __init__(self, expression: str, timezone: str = "UTC", *, jitter: int = 0, key: str = "") -> None:
        if not 0 <= jitter <= limits.CRON_JITTER_MAX:
            raise ValidationError(f"jitter lies between 0 and {limits.CRON_JITTER_MAX:,} s", field="jitter")
        self.pattern: Pattern = read_pattern(expression)
        self.zone = find_zone(timezone)
        self.delay: timedelta = share_of_jitter(key, jitter)

    @property
    def expression(self) -> str:
        """As it was given, with single spaces."""
        return self.pattern.expression

    @property
    def timezone(self) -> str:
        """The IANA name."""
        return str(self.zone)

    def __repr__(self) -> str:
        return f"CronSchedule({self.expression!r}, {self.timezone!r}, delay={self.delay})"

    def next_after(self, moment: datetime) -> datetime:
        """The first fire after a moment. Raises ValidationError where none comes before the year 9998."""
        for fire in self.fires(moment):
            return fire
        raise wrong(f"{self.expression} does not fire any more before the year 9998")

    def fires(self, after: datetime, before: datetime | None = None) -> Iterator[datetime]:
        """The fires after `after` and before `before` (None: without end), in order."""
        found = fires_after(self.pattern, self.zone, to_instant(after) - self.delay)
        moved = (fire + self.delay for fire in found)
        if before is None:
            return moved
        end = to_instant(before)
        return takewhile(lambda fire: fire < end, moved)

    def fires_between(self, after: datetime, until: datetime, most: int) -> list[datetime]:
        """The last `most` fires after `after`, up to and including `until`, in order.

        What a scheduler that was away has to make up for; costs nothing for the fires that are left out.
        """
        first, last = to_instant(after) - self.delay, to_instant(until) - self.delay
        found = latest_fires(self.pattern, self.zone, first, last, most)
        return [fire + self.delay for fire in found]

    def check(self, now: datetime) -> None:
        """Refuse what does not fire within five years. For schedules that are saved, not for those that are loaded.

        Raises ValidationError (field `cron`) that says when it would fire first.
        """
        refuse_distant(self.next_after(now), now, "fires")


def share_of_jitter(key: str, seconds: int) -> timedelta:
    """A whole number of seconds, 0 to `seconds`, that depends on both and nothing else (BLAKE2b, 64 bits)."""
    number = int.from_bytes(blake2b(key.encode(), digest_size=8).digest())
    return timedelta(seconds=number % (seconds + 1))


def refuse_distant(first: datetime, now: datetime, does: str) -> None:
    """Raise ValidationError (field `cron`) where `first` lies more than five years after `now`."""
    if first - now > timedelta(days=366 * limits.CRON_YEARS):
        raise wrong(
            f"it {does} first on {first:%Y-%m-%d}; a schedule that waits longer than {limits.CRON_YEARS} years "
            "is a mistake or a date to trigger by hand"
        )
