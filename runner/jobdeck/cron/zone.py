"""Time zones as cron needs them: found by name, and cut where their clocks change."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from difflib import get_close_matches
from functools import cache, lru_cache
from importlib.resources import files
from typing import Final
from zoneinfo import ZoneInfo

from jobdeck.errors import ValidationError
from jobdeck.text import clean

_NAME: Final = re.compile(r"[A-Za-z0-9_+\-]+(?:/[A-Za-z0-9_+\-]+)*")
# The longest name there is has 32 characters.
_NAME_CHARS: Final = 64
# What lies beside the zones in the files of a system: copies, with leap seconds or not, and the machine's own zone.
_NO_ZONES: Final = frozenset({"posix", "right", "posixrules", "localtime", "factory"})
_DAY: Final = timedelta(days=1)
_TICK: Final = timedelta(microseconds=1)
# A year less than Python's last one: no offset can lead out of what a datetime holds.
_LAST_YEAR: Final = 9998


@dataclass(frozen=True, slots=True)
class Change:
    """A moment (UTC) at which a zone's offset from UTC changes."""

    at: datetime
    offset: timedelta


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time in which a zone keeps its offset: from `begins` on, before `ends` (both UTC)."""

    begins: datetime
    ends: datetime
    offset: timedelta
    reached: datetime
    """How far the wall clock had come before: before `opens` in a gap, after it in an overlap, else the same."""

    @property
    def opens(self) -> datetime:
        """The wall clock at its beginning."""
        return self.local(self.begins)

    @property
    def closes(self) -> datetime:
        """The wall clock at its end."""
        return self.local(self.ends)

    def local(self, instant: datetime) -> datetime:
        """The wall clock, without a zone, at an instant."""
        return (instant + self.offset).replace(tzinfo=None)

    def instant(self, local: datetime) -> datetime:
        """When the wall clock shows this."""
        return local.replace(tzinfo=UTC) - self.offset


def find_zone(name: str) -> ZoneInfo:
    """The zone of an IANA name. Raises ValidationError (field `timezone`) naming those that are spelt like it."""
    usable = len(name) <= _NAME_CHARS and _NAME.fullmatch(name)
    if usable and name.partition("/")[0].lower() not in _NO_ZONES:
        # A folder of zones, like Europe, is an OSError.
        with suppress(LookupError, OSError, ValueError):
            return ZoneInfo(name)
    similar = _similar(name[:_NAME_CHARS])
    advice = f"did you mean {' or '.join(similar)}?" if similar else "write one like Europe/London or UTC"
    raise ValidationError(f"there is no time zone '{clean(name, 40)}'; {advice}", field="timezone")


def _similar(name: str) -> list[str]:
    known, wanted = _known(), name.strip().replace(" ", "_").casefold()
    if wanted in known:
        return [known[wanted]]
    city = wanted.rpartition("/")[2]
    cities = [zone for key, zone in known.items() if key.rpartition("/")[2] == city]
    return cities[:3] or [known[key] for key in get_close_matches(wanted, known, n=3)]


@cache
def _known() -> dict[str, str]:
    """Every name, by itself in small letters. From the package: looking through a system's files takes too long."""
    return {zone.casefold(): zone for zone in files("tzdata").joinpath("zones").read_text().split()}


def to_instant(moment: datetime) -> datetime:
    """A moment in UTC. One that its zone's clocks skip counts as the last instant before they do.

    So nothing that a schedule moved to the end of the gap is lost. Raises ValueError for a datetime without a zone.
    """
    if moment.tzinfo is None:
        raise ValueError(f"a datetime without a time zone is not a point in time: {moment!r}")
    instant = moment.astimezone(UTC)
    if instant.astimezone(moment.tzinfo).replace(tzinfo=None) == moment.replace(tzinfo=None):
        return instant
    # Read with the offset of the other side, a skipped time lies on this side of the change, and the other way round.
    sides = sorted(moment.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    return _change_between(moment.tzinfo, *sides) - _TICK


def stretches(zone: tzinfo, begin: datetime, end: datetime | None = None) -> Iterator[Stretch]:
    """The time from `begin` (UTC) on, cut at each change and at each new year, until one reaches past `end`."""
    opened, offset = begin, _offset(zone, begin)
    reached = (begin + offset).replace(tzinfo=None)
    for year in range(begin.year, _LAST_YEAR):
        for change in (*changes(zone, year), None):
            ends = change.at if change else datetime(year + 1, 1, 1, tzinfo=UTC)
            if ends <= opened:
                continue
            stretch = Stretch(opened, ends, offset, reached)
            yield stretch
            if end is not None and ends > end:
                return
            reached = max(reached, stretch.closes)
            opened, offset = ends, change.offset if change else offset


@lru_cache(maxsize=4096)
def changes(zone: tzinfo, year: int) -> tuple[Change, ...]:
    """The changes of a year (UTC), in order.

    Two within one day that undo each other are not seen; no zone has had any since 1975 (measured in steps of 6 hours).
    """
    found = []
    day = datetime(year, 1, 1, tzinfo=UTC)
    offset = _offset(zone, day)
    while day.year == year:
        following = day + _DAY
        after = _offset(zone, following)
        if after != offset:
            found.append(Change(_change_between(zone, day, following), after))
        day, offset = following, after
    return tuple(found)


def _change_between(zone: tzinfo, low: datetime, high: datetime) -> datetime:
    """The first whole second with another offset than `low` has; the one of `high` is another."""
    before, low, high = _offset(zone, low), low.replace(microsecond=0), high.replace(microsecond=0)
    while (seconds := (high - low) // timedelta(seconds=1)) > 1:
        middle = low + timedelta(seconds=seconds // 2)
        low, high = (middle, high) if _offset(zone, middle) == before else (low, middle)
    return high


def _offset(zone: tzinfo, instant: datetime) -> timedelta:
    return instant.astimezone(zone).utcoffset() or timedelta(0)
