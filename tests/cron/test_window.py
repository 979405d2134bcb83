"""Execution windows: the minutes in which runs may start."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from jobdeck.cron import ExecutionWindow
from jobdeck.errors import ValidationError
from tests.cron.oracle import parse

NEW_YORK = ZoneInfo("America/New_York")
TICK = timedelta(microseconds=1)


def at(text: str) -> datetime:
    """A moment in New York."""
    return datetime.fromisoformat(text).replace(tzinfo=NEW_YORK)


def test_a_working_day() -> None:
    """Open from the first microsecond of 09:00 to the last of 17:59 on Monday to Friday, by the wall clock."""
    window = ExecutionWindow("* 9-17 * * 1-5", "America/New_York")
    friday, monday = at("2026-11-27T09:00"), at("2026-11-30T09:00")
    assert not window.is_open(friday - TICK)
    assert window.is_open(friday)
    assert window.is_open(at("2026-11-27T17:59:59.999999"))
    assert not window.is_open(at("2026-11-27T18:00"))
    assert window.next_open(friday - TICK) == friday
    assert window.next_open(friday + TICK) == friday + TICK
    assert window.next_open(at("2026-11-27T18:00")) == monday
    assert window.next_open(monday).tzinfo is UTC
    assert window.narrow is None


def test_a_window_of_single_minutes_says_so() -> None:
    """`0 9-17` names minute 0 alone: open at 10:00 for a minute, closed at 10:01, and the warning names the cure."""
    window = ExecutionWindow("0 9-17 * * 1-5", "America/New_York")
    assert window.is_open(at("2026-11-27T10:00:59"))
    assert not window.is_open(at("2026-11-27T10:01"))
    assert window.next_open(at("2026-11-27T10:01")) == at("2026-11-27T11:00")
    assert window.narrow is not None
    assert "* 9-17 * * 1-5 is open for the whole hours" in window.narrow


@pytest.mark.parametrize(
    ("expression", "narrow"),
    [("*/5 * * * *", True), ("0,30 * * * *", True), ("0-14 * * * *", False), ("*/59 * * * *", False),
     ("10,11 2 * * *", False)],
)  # fmt: skip
def test_which_windows_are_narrow(expression: str, narrow: bool) -> None:
    """Two minutes in a row are a window, minute 59 and 0 among them."""
    assert (ExecutionWindow(expression).narrow is not None) is narrow


def test_a_window_in_a_gap_does_not_open_and_in_an_overlap_opens_twice() -> None:
    """It follows the wall clock, also where the same expression is a schedule of fixed times."""
    window = ExecutionWindow("15-20 2 * * *", "America/New_York")
    assert window.next_open(at("2026-03-07T22:00")) == at("2026-03-09T02:15")
    window = ExecutionWindow("15-20 1 * * *", "America/New_York")
    first = window.next_open(at("2026-10-31T22:00"))
    second = window.next_open(first + timedelta(minutes=6))
    assert second == first + timedelta(hours=1)
    assert window.next_open(second + timedelta(minutes=6)) == at("2026-11-02T01:15")


@pytest.mark.parametrize("zone", ["America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "UTC"])
@pytest.mark.parametrize(
    "expression", ["* 9-17 * * 1-5", "0-29 1-2 * * *", "*/10 22-23 * * 0,6", "5-7 2 1-15 3,10 *"]
)
def test_open_and_next_open_agree_with_every_minute(expression: str, zone: str) -> None:
    """Over the changes of the year, minute by minute: what is open is what the wall clock names."""
    names, window, where = parse(expression), ExecutionWindow(expression, zone), ZoneInfo(zone)
    for begin in ("2026-03-07", "2026-03-28", "2026-04-04", "2026-10-03", "2026-10-31"):
        moment = datetime.fromisoformat(begin).replace(tzinfo=UTC)
        waiting: list[datetime] = []
        for _ in range(2 * 24 * 60):
            wall = moment.astimezone(where)
            is_open = names.on(wall.toordinal()) and wall.hour in names.hours and wall.minute in names.minutes
            assert window.is_open(moment) is is_open
            waiting.append(moment)
            if is_open:
                assert {window.next_open(earlier) for earlier in waiting[-1:] + waiting[:1]} == {moment}
                waiting.clear()
            moment += timedelta(minutes=1)


def test_a_window_that_never_opens_is_refused() -> None:
    """As a schedule is."""
    with pytest.raises(ValidationError, match="February has no day 30"):
        ExecutionWindow("* * 30 2 *")
    with pytest.raises(ValidationError, match="opens first on 2044-02-29"):
        ExecutionWindow("* * * 2 1#5").check(datetime(2026, 11, 26, tzinfo=UTC))
    with pytest.raises(ValidationError, match="time zone"):
        ExecutionWindow("* * * * *", "Nowhere")
