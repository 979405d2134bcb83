"""A whole year of fires, minute by minute, against two oracles that know nothing of croniter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest

from jobdeck.cron import CronSchedule
from tests.cron.oracle import simulated, walked

EXPRESSIONS = (
    "30 2 * * *",
    "30 1 * * *",
    "0 * * * *",
    "*/20 1 * * *",
    "15,45 1-2 * * *",
    "0 0 29 2 *",
    "30 2 * * 1-5",
    "0 0 * * 0",
    "*/30 * * * *",
    "0 */2 * * *",
    "* 2 * * *",
    "0 1,2,3 * * *",
    "0-59/20 1-3 * * *",
    "7,*/20 1 * * *",
    "15 2 29-31 3,10 *",
    "45 23 31 * *",
    "0 12 13 * 5",
    "0 3 */2 * 1",
    "30 2 1-7 * */2",
    "*/7 */5 * 4-10/3 2-6/2",
)
ZONES = (
    "America/New_York",
    "Europe/London",
    "Australia/Lord_Howe",
    "UTC",
    "Asia/Kolkata",
    "Pacific/Chatham",
    "Antarctica/Troll",
    "Africa/Casablanca",
)
BEGIN, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)


@cache
def walked_year(zone: str) -> dict[str, list[datetime]]:
    """One walk for all expressions."""
    return walked(EXPRESSIONS, ZoneInfo(zone), BEGIN, END)


@cache
def scheduled(expression: str, zone: str) -> list[datetime]:
    """The fires of the year as jobdeck has them."""
    return CronSchedule(expression, zone).fires_between(BEGIN, END, 10**6)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_year_equals_the_walk_through_its_minutes(expression: str, zone: str) -> None:
    """Every fire of 2026, and no other, is where the rule of Debian's cron puts it."""
    assert scheduled(expression, zone) == walked_year(zone)[expression]


# Where cronsim 2.8 differs, Debian's rule decides: a wildcard job runs when the wall clock shows its minute. In real
# time cronsim goes on by whole hours, and so passes over minutes after a change by a part of one, or to one.
CRONSIM_PASSES_OVER = {
    ("0 */2 * * *", "Australia/Lord_Howe"): ("2026-04-04T15:30", 1),
    ("* 2 * * *", "Australia/Lord_Howe"): ("2026-04-04T15:30", 30),
    ("* 2 * * *", "Pacific/Chatham"): ("2026-04-04T14:00", 15),
}


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_year_equals_cronsim(expression: str, zone: str) -> None:
    """The same year by another library that states the same policy; three differences are known, to the minute."""
    first, count = CRONSIM_PASSES_OVER.get((expression, zone), ("2026-01-01T00:00", 0))
    passed_over = [
        datetime.fromisoformat(first).replace(tzinfo=UTC) + timedelta(minutes=number)
        for number in range(count)
    ]
    expected = sorted([*simulated(expression, ZoneInfo(zone), BEGIN, END), *passed_over])
    assert scheduled(expression, zone) == expected


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_one_fire_leads_to_the_next(expression: str, zone: str) -> None:
    """The iterator, and asking for the next fire again and again, give the year that the catch-up gives."""
    schedule, expected = CronSchedule(expression, zone), scheduled(expression, zone)
    assert [fire for fire in schedule.fires(BEGIN, END) if fire < END] == [f for f in expected if f < END]
    moment, chain = BEGIN, []
    for _ in expected[:400]:
        moment = schedule.next_after(moment)
        chain.append(moment)
    assert chain == expected[:400]


def test_the_year_is_long_enough_to_tell() -> None:
    """The oracles differ from a wall clock that does not know of the changes: the year is no easy one."""
    plain = walked_year("UTC")
    for zone in ("America/New_York", "Europe/London", "Australia/Lord_Howe"):
        differing = [name for name in EXPRESSIONS if len(plain[name]) != len(walked_year(zone)[name])]
        assert differing
