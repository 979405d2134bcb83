"""What a handler can answer besides a result: raise one of these to steer what happens to the run."""

from __future__ import annotations

from datetime import timedelta
from typing import Self

from jobdeck.durations import parse_duration


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


class Cancelled(BaseException):
    """Raised by `ctx.raise_if_cancelled()` and `ctx.sleep()` once the handler should stop.

    Not an `Exception`, so that a handler's `except Exception` does not swallow it.
    """
