"""What a handler can answer besides a result: raise one of these to steer what happens to the run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Self

from jobdeck.durations import parse_duration
from jobdeck.errors import ValidationError


class Steering(Exception):
    """Base of the exceptions with which a handler steers its run; not an error."""

    def with_words(self, words: str) -> Self:
        """The same steering with other words."""
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.args = (words,)
        return other


class Retry(Steering):
    """End this attempt as a failure and try again, after `after` instead of the usual backoff.

    It counts against max_attempts like any failure.
    """

    def __init__(
        self, reason: str = "retry asked by the handler", *, after: str | float | timedelta | None = None
    ):
        super().__init__(reason)
        self.after = None if after is None else parse_duration(after)


class Discard(Steering):
    """End the run as `failed` now, whatever attempts are left."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class Snooze(Steering):
    """Put the run back for `delay` without burning an attempt."""

    def __init__(self, delay: str | float | timedelta, reason: str = "snoozed by the handler") -> None:
        super().__init__(reason)
        self.delay = parse_duration(delay)


class Park(Steering):
    """Leave the run to another system, which has until `until` to end it; the slot is free meanwhile.

    That system ends it by `ctx.token`: `jobdeck runs finish RUN completed --token TOKEN`. Where it does not in time,
    the attempt counts as timed out. `until` is a time with a zone, or how long from now.
    Raises ValidationError for a time without a zone.
    """

    def __init__(
        self, until: datetime | timedelta | str | float, reason: str = "parked by the handler"
    ) -> None:
        super().__init__(reason)
        self.until: datetime | None = None
        """None: it has `delay`."""
        self.delay = timedelta()
        if not isinstance(until, datetime):
            self.delay = parse_duration(until)
        elif until.tzinfo is None:
            raise ValidationError("a run is parked until a time with a zone, or for a time: Park('1h')")
        else:
            self.until = until.astimezone(UTC)


class Cancelled(BaseException):
    """Raised by `ctx.raise_if_cancelled()` and `ctx.sleep()` once the handler should stop.

    Not an `Exception`, so that a handler's `except Exception` does not swallow it.
    """
