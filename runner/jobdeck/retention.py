"""How long ended runs are kept. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from jobdeck.durations import format_duration, parse_duration
from jobdeck.errors import ValidationError
from jobdeck.states import Status

NEVER: Final = "never"


def parse_keep(text: str | float | timedelta | None) -> timedelta | None:
    """`14d`; None, which means for ever, for `never` and 0. Raises ValidationError."""
    if text in (None, NEVER, "0"):
        return None
    try:
        return parse_duration(text) or None
    except ValidationError as error:
        raise ValidationError(f"{error}; {NEVER} or 0 keeps them for good") from None


def format_keep(keep: timedelta | None) -> str:
    """As `parse_keep` reads it."""
    return NEVER if keep is None else format_duration(keep)


@dataclass(frozen=True, slots=True)
class Retention:
    """For each status that ends a run, how long after its end it is kept; None: for ever.

    The defaults: what went well is looked at for two weeks, what did not for a quarter of a year.
    """

    completed: timedelta | None = timedelta(days=14)
    failed: timedelta | None = timedelta(days=90)
    dead: timedelta | None = timedelta(days=90)
    cancelled: timedelta | None = timedelta(days=90)
    expired: timedelta | None = timedelta(days=90)

    def of(self, status: Status) -> timedelta | None:
        """That of one status. Raises AttributeError for one that does not end a run."""
        keep: timedelta | None = getattr(self, status.value)
        return keep
