"""What clock changes do to fires: the measured cases one by one, odd zones, and any expression near any change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobdeck.cron import CronSchedule
from jobdeck.cron.pattern import read_pattern
from jobdeck.cron.timeline import fires_after, latest_fires
from tests.cron.oracle import changes_of, walked

NEW_YORK, LONDON, LORD_HOWE = "America/New_York", "Europe/London", "Australia/Lord_Howe"
TICK = timedelta(microseconds=1)


def utc(text: str) -> datetime:
    """`2026-03-08 07:00`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "begin", "end", "expression", "times"),
    [
        # New York, 8 March 2026: 02:00 EST is 03:00 EDT, 07:00 UTC.
        (NEW_YORK, "2026-03-08 05:00", "2026-03-09 04:00", "30 2 * * *", ["07:00"]),
        (NEW_YORK, "2026-03-08 05:00", "2026-03-09 04:00", "30 1 * * *", ["06:30"]),
        (NEW_YORK, "2026-03-08 05:30", "2026-03-08 08:30", "0 * * * *", ["06:00", "07:00", "08:00"]),
        # 1 November 2026: 02:00 EDT is 01:00 EST, 06:00 UTC.
        (NEW_YORK, "2026-11-01 04:00", "2026-11-02 05:00", "30 2 * * *", ["07:30"]),
        (NEW_YORK, "2026-11-01 04:00", "2026-11-02 05:00", "30 1 * * *", ["05:30"]),
        (NEW_YORK, "2026-11-01 04:30", "2026-11-01 07:30", "0 * * * *", ["05:00", "06:00", "07:00"]),
        # London, 29 March 2026: 01:00 GMT is 02:00 BST, 01:00 UTC.
        (LONDON, "2026-03-29 00:00", "2026-03-29 23:00", "30 2 * * *", ["01:30"]),
        (LONDON, "2026-03-29 00:00", "2026-03-29 23:00", "30 1 * * *", ["01:00"]),
        (LONDON, "2026-03-28 23:30", "2026-03-29 02:30", "0 * * * *", ["00:00", "01:00", "02:00"]),
        # 25 October 2026: 02:00 BST is 01:00 GMT, 01:00 UTC.
        (LONDON, "2026-10-24 23:00", "2026-10-26 00:00", "30 2 * * *", ["02:30"]),
        (LONDON, "2026-10-24 23:00", "2026-10-26 00:00", "30 1 * * *", ["00:30"]),
        (LONDON, "2026-10-24 23:30", "2026-10-25 02:30", "0 * * * *", ["00:00", "01:00", "02:00"]),
        # Lord Howe, 4 October 2026: 02:00+10:30 is 02:30+11, 15:30 UTC the day before.
        (LORD_HOWE, "2026-10-03 13:30", "2026-10-04 13:00", "30 2 * * *", ["15:30"]),
        (LORD_HOWE, "2026-10-03 13:30", "2026-10-04 13:00", "0 2 * * *", ["15:30"]),
        (LORD_HOWE, "2026-10-03 13:30", "2026-10-04 13:00", "15 2 * * *", ["15:30"]),
        (LORD_HOWE, "2026-10-03 13:30", "2026-10-04 13:00", "0,15,30 2 * * *", ["15:30"]),
        (LORD_HOWE, "2026-10-03 13:30", "2026-10-04 13:00", "30 1 * * *", ["15:00"]),
        (LORD_HOWE, "2026-10-03 14:00", "2026-10-03 16:30", "0 * * * *", ["14:30", "16:00"]),
        # 5 April 2026: 02:00+11 is 01:30+10:30, 15:00 UTC the day before.
        (LORD_HOWE, "2026-04-04 13:00", "2026-04-05 13:30", "30 2 * * *", ["16:00"]),
        (LORD_HOWE, "2026-04-04 13:00", "2026-04-05 13:30", "30 1 * * *", ["14:30"]),
        (LORD_HOWE, "2026-04-04 13:00", "2026-04-05 13:30", "45 1 * * *", ["14:45"]),
        (LORD_HOWE, "2026-04-04 13:30", "2026-04-04 16:00", "0 * * * *", ["14:00", "15:30"]),
        # A star in the minute is real time as well, also where the hour is fixed.
        (NEW_YORK, "2026-03-08 05:00", "2026-03-09 04:00", "*/30 2 * * *", []),
        (NEW_YORK, "2026-11-01 04:00", "2026-11-02 05:00", "*/30 1 * * *", ["05:00", "05:30", "06:00", "06:30"]),
        # The first character decides, as in Debian's cron: the same values without a star in front are fixed times.
        (NEW_YORK, "2026-11-01 04:00", "2026-11-02 05:00", "0-30/30 1 * * *", ["05:00", "05:30"]),
        (NEW_YORK, "2026-11-01 04:00", "2026-11-02 05:00", "30,*/30 1 * * *", ["05:00", "05:30"]),
    ],
)  # fmt: skip
def test_measured_cases(zone: str, begin: str, end: str, expression: str, times: list[str]) -> None:
    """In a gap a fixed time fires once, at its end; in an overlap once, the first time; a star follows real time."""
    fires = CronSchedule(expression, zone).fires(utc(begin), utc(end))
    assert [f"{fire:%H:%M}" for fire in fires] == times


def test_a_start_inside_the_gap_keeps_the_fire_of_the_day() -> None:
    """02:15 does not exist in New York on that day; the fire of 02:30, moved to 03:00, still lies ahead of it."""
    schedule = CronSchedule("30 2 * * *", NEW_YORK)
    for fold in (0, 1):
        for minute in (0, 15, 45, 59):
            inside = datetime(2026, 3, 8, 2, minute, 30, fold=fold, tzinfo=ZoneInfo(NEW_YORK))
            assert schedule.next_after(inside) == utc("2026-03-08 07:00")
    assert schedule.next_after(utc("2026-03-08 07:00")) == utc("2026-03-09 06:30")


def test_a_start_inside_the_second_pass_of_an_overlap_waits_for_the_next_day() -> None:
    """01:30 has fired before the clocks went back; 01:10, shown again, does not lead to it a second time."""
    second_pass = datetime(2026, 11, 1, 1, 10, fold=1, tzinfo=ZoneInfo(NEW_YORK))
    assert CronSchedule("30 1 * * *", NEW_YORK).next_after(second_pass) == utc("2026-11-02 06:30")
    assert CronSchedule("*/30 1 * * *", NEW_YORK).next_after(second_pass) == utc("2026-11-01 06:30")


@pytest.mark.parametrize("zone", [NEW_YORK, LONDON, LORD_HOWE, "UTC"])
@pytest.mark.parametrize("expression", ["30 2 * * *", "0 * * * *", "*/20 1 * * *"])
def test_moments_on_and_beside_a_fire(expression: str, zone: str) -> None:
    """A microsecond before a fire it is the next one; on it and a microsecond after, the one behind it is."""
    schedule = CronSchedule(expression, zone)
    fires = schedule.fires_between(utc("2026-01-01"), utc("2027-01-01"), 10**5)
    for fire, following in pairwise(fires):
        assert schedule.next_after(fire - TICK) == fire
        assert schedule.next_after(fire) == schedule.next_after(fire + TICK) == following


def test_a_day_that_a_zone_left_out() -> None:
    """Samoa had no 30 December 2011: its daily run came at the first minute of the 31st, and then as always."""
    fires = CronSchedule("30 2 * * *", "Pacific/Apia").fires(utc("2011-12-29 12:00"), utc("2012-01-01 00:00"))
    assert list(fires) == [
        utc("2011-12-29 12:30"),
        utc("2011-12-30 10:00"),
        utc("2011-12-30 12:30"),
        utc("2011-12-31 12:30"),
    ]


@pytest.mark.parametrize(
    ("zone", "change"),
    [
        ("Asia/Pyongyang", "2015-08-14 15:00"),
        ("Asia/Pyongyang", "2018-05-04 15:00"),
        ("America/Caracas", "2016-05-01 07:00"),
        ("Europe/Istanbul", "2016-09-07 00:00"),
        ("Europe/Volgograd", "2020-12-26 22:00"),
        ("Asia/Gaza", "2023-04-29 00:00"),
        ("Africa/Cairo", "2014-06-26 22:00"),
        ("America/Nuuk", "2023-03-26 01:00"),
        ("Asia/Kathmandu", "2026-05-01 00:00"),
        ("Africa/Casablanca", "2026-02-15 02:00"),
        ("Antarctica/Troll", "2026-03-29 01:00"),
        ("Pacific/Kwajalein", "1993-08-21 00:00"),
    ],
)
def test_zones_that_changed_their_offset(zone: str, change: str) -> None:
    """Half hours, two hours, a change for good, a change back within a month, no change at all."""
    expressions = [
        f"{minute} {hours} * * *" for minute in ("0", "*/15", "15,45") for hours in ("*", "0-3", "23", "2")
    ]
    begin, end = utc(change) - timedelta(days=40), utc(change) + timedelta(days=40)
    expected = walked(expressions, ZoneInfo(zone), begin, end)
    for expression in expressions:
        assert CronSchedule(expression, zone).fires_between(begin, end, 10**6) == expected[expression]


class BackAtNewYear(tzinfo):
    """Two hours ahead of UTC until half an hour before the new year of UTC, one hour ahead from then on."""

    _early, _late = timedelta(hours=2), timedelta(hours=1)
    _change = datetime(2026, 12, 31, 23, 30)  # noqa: DTZ001  without a zone, as tzinfo's methods get them

    def fromutc(self, moment: datetime) -> datetime:
        passed = moment.replace(tzinfo=None) - self._change
        if passed < timedelta(0):
            return moment + self._early
        return (moment + self._late).replace(fold=passed < self._early - self._late)

    def utcoffset(self, moment: datetime | None) -> timedelta:
        assert moment is not None
        local = moment.replace(tzinfo=None, fold=0)
        early = local < self._change + self._late or (local < self._change + self._early and not moment.fold)
        return self._early if early else self._late

    def dst(self, moment: datetime | None) -> None:
        return None

    def tzname(self, moment: datetime | None) -> None:
        return None


def test_an_overlap_over_the_new_year_of_utc() -> None:
    """No zone has had one since 1970; what is cut there for looking things up is not cut for the rule."""
    begin, end = utc("2026-12-31 22:00"), utc("2027-01-01 06:00")
    zone = BackAtNewYear()
    fixed, real_time = read_pattern("45 0-1 * * *"), read_pattern("*/45 1 * * *")
    times = [utc("2026-12-31 22:45"), utc("2027-01-01 00:45")]
    assert list(fires_after(fixed, zone, begin, end)) == times
    assert latest_fires(fixed, zone, begin, end, 9) == times
    assert list(fires_after(read_pattern("15 1 * * *"), zone, begin, end)) == [utc("2026-12-31 23:15")]
    assert list(fires_after(real_time, zone, begin, end)) == [
        utc("2026-12-31 23:00"), utc("2027-01-01 00:00"), utc("2027-01-01 00:45"),
    ]  # fmt: skip


def test_offsets_with_seconds() -> None:
    """Until 1972 Monrovia was 44 min 30 s behind UTC: local 02:30 was 03:14:30 UTC, and the fires follow it."""
    schedule = CronSchedule("30 2 * * *", "Africa/Monrovia")
    assert schedule.next_after(utc("1971-06-01 00:00")) == utc("1971-06-01 03:14:30")
    assert schedule.next_after(utc("1973-06-01 00:00")) == utc("1973-06-01 02:30")


@pytest.mark.parametrize(
    ("expression", "after", "fire"),
    [
        ("0 0 29 2 *", "2026-01-01 00:00", "2028-02-29 00:00"),
        ("0 0 29 2 *", "2028-02-29 00:00", "2032-02-29 00:00"),
        ("0 0 29 2 *", "2096-02-29 00:00", "2104-02-29 00:00"),
        ("59 23 31 12 *", "2027-12-31 23:59", "2028-12-31 23:59"),
        ("0 0 L 2 *", "2028-02-28 00:00", "2028-02-29 00:00"),
        ("0 0 L 2 *", "2027-01-01 00:00", "2027-02-28 00:00"),
        ("0 0 1 1 *", "2026-12-31 23:59", "2027-01-01 00:00"),
        ("0 0 * 2 1#5", "2026-01-01 00:00", "2044-02-29 00:00"),
    ],
)
def test_leap_years_and_turns_of_the_year(expression: str, after: str, fire: str) -> None:
    """29 February, the last day of the year and of February; a schedule that is loaded may wait longer than 5 years."""
    assert CronSchedule(expression).next_after(utc(after)) == utc(fire)


ODD_ZONES = (
    NEW_YORK, LONDON, LORD_HOWE, "Africa/Casablanca", "Antarctica/Troll", "Pacific/Chatham", "America/Havana",
    "Asia/Tehran", "America/Santiago", "Europe/Dublin", "Asia/Beirut", "America/Scoresbysund", "Pacific/Norfolk",
)  # fmt: skip


@cache
def _changes(zone: str) -> list[datetime]:
    return changes_of(ZoneInfo(zone), 2019, 2028)


def _items(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(st.integers(low, high - 1), st.integers(1, 6)).map(
        lambda t: (t[0], min(t[0] + t[1], high))
    )
    return st.one_of(
        number.map(str),
        span.map(lambda found: f"{found[0]}-{found[1]}"),
        st.lists(number, min_size=2, max_size=3).map(lambda found: ",".join(map(str, found))),
    )


_STARS = st.sampled_from(["*", "*/2", "*/5", "*/7", "*/15"])
EXPRESSIONS = st.builds(
    " ".join,
    st.tuples(
        st.one_of(_items(0, 59), _STARS),
        st.one_of(_items(0, 4), _items(0, 23), st.sampled_from(["*", "*/2", "*/3"])),
        st.one_of(st.just("*"), st.just("*"), _items(1, 31), st.just("*/2")),
        st.one_of(st.just("*"), st.just("*"), st.just("1-12")),
        st.one_of(st.just("*"), st.just("*"), _items(0, 6), st.just("*/2")),
    ),
)


@settings(max_examples=300, deadline=None)
@given(EXPRESSIONS, st.sampled_from(ODD_ZONES), st.data())
def test_any_expression_near_any_change(expression: str, zone: str, data: st.DataObject) -> None:
    """Three days around a change, from a moment anywhere in them, equal the walk; so do the latest of them."""
    known = _changes(zone)
    change = data.draw(st.sampled_from(known)) if known else utc("2026-03-29 01:00")
    hours = st.integers(-36 * 3600, 36 * 3600)
    begin, end = sorted(change + timedelta(seconds=data.draw(hours)) for _ in range(2))
    expected = walked([expression], ZoneInfo(zone), begin, end)[expression]
    schedule = CronSchedule(expression, zone)
    assert schedule.fires_between(begin, end, 10**6) == expected
    assert list(schedule.fires(begin, end + TICK)) == expected
    most = data.draw(st.integers(0, 5))
    assert schedule.fires_between(begin, end, most) == (expected[-most:] if most else [])


def test_a_naive_moment_is_refused() -> None:
    """A datetime without a zone is a mistake of the caller."""
    with pytest.raises(ValueError, match="time zone"):
        CronSchedule("0 0 * * *").next_after(datetime(2026, 1, 1))  # noqa: DTZ001  the point of the test
