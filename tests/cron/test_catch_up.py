"""What a scheduler that was away makes up for costs what it gives, not what was missed; and jitter stays put."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from croniter import croniter

from jobdeck import limits
from jobdeck.cron import CronSchedule
from jobdeck.cron.pattern import Days, read_pattern
from jobdeck.cron.zone import Stretch
from jobdeck.errors import ValidationError

NOW = datetime(2026, 11, 26, 8, 0, 20, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Steps:
    """Counts the days looked at, the times computed and the texts parsed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.days = self.times = self.parsed = 0
        include, instant, parser = Days.include, Stretch.instant, croniter

        def counted_include(days: Days, day: date) -> bool:
            self.days += 1
            return include(days, day)

        def counted_instant(stretch: Stretch, local: datetime) -> datetime:
            self.times += 1
            return instant(stretch, local)

        def counted_parser(expression: str, start: float) -> object:
            self.parsed += 1
            return parser(expression, start)

        monkeypatch.setattr(Days, "include", counted_include)
        monkeypatch.setattr(Stretch, "instant", counted_instant)
        monkeypatch.setattr("jobdeck.cron.pattern.croniter", counted_parser)
        read_pattern.cache_clear()


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Counters that begin at nothing."""
    return Steps(monkeypatch)


@pytest.mark.parametrize("away", [timedelta(days=30), timedelta(days=365), timedelta(days=10 * 365)])
@pytest.mark.parametrize("zone", ["UTC", "Europe/London", "Australia/Lord_Howe"])
@pytest.mark.parametrize("most", [1, 10])
def test_a_minutely_schedule_away_for_long(steps: Steps, away: timedelta, zone: str, most: int) -> None:
    """The latest one, or ten, of 43,200 or 525,600 missed minutes: a day or two looked at, no fire more computed."""
    found = CronSchedule("* * * * *", zone).fires_between(NOW - away, NOW, most)
    last = NOW.replace(second=0)
    assert found == [last - number * MINUTE for number in reversed(range(most))]
    assert steps.days <= 3
    assert steps.times <= most + 1
    assert steps.parsed == 1


def test_the_next_fire_costs_the_same_after_any_time(steps: Steps) -> None:
    """Policy `skip` asks for the fire after now and computes no other."""
    assert CronSchedule("* * * * *", "Europe/London").next_after(NOW) == NOW.replace(second=0) + MINUTE
    assert (steps.days <= 2, steps.times, steps.parsed) == (True, 1, 1)


def test_rare_schedules_look_at_their_months_only(steps: Steps) -> None:
    """29 February: the Februaries of two years, not the days between them; parsed once for many questions."""
    schedule = CronSchedule("0 0 29 2 *", "Europe/London")
    steps.days = 0
    assert schedule.next_after(NOW) == datetime(2028, 2, 29, tzinfo=UTC)
    assert schedule.fires_between(datetime(2020, 3, 1, tzinfo=UTC), NOW, 3) == [
        datetime(2024, 2, 29, tzinfo=UTC)
    ]
    assert steps.days <= 28 * 10
    assert CronSchedule("0 0 29 2 *", "UTC").pattern is schedule.pattern
    assert steps.parsed == 1


def test_nothing_missed_is_nothing_to_make_up() -> None:
    """An empty span, one before the first fire, and asking for none."""
    schedule = CronSchedule("0 0 * * *")
    midnight = datetime(2026, 11, 26, tzinfo=UTC)
    assert schedule.fires_between(midnight, midnight, 5) == []
    assert schedule.fires_between(midnight, midnight + MINUTE, 5) == []
    assert schedule.fires_between(midnight - MINUTE, midnight, 5) == [midnight]
    assert schedule.fires_between(midnight - MINUTE, midnight, 0) == []
    assert schedule.fires_between(midnight, midnight - timedelta(days=3), 5) == []
    assert list(schedule.fires(midnight - MINUTE, midnight)) == []


def test_jitter_moves_all_fires_by_a_share_that_is_the_keys() -> None:
    """The same everywhere and for ever (the number is written down here), others for other keys, never beyond it."""
    plain = CronSchedule("0 2 * * *", "Europe/London")
    moved = CronSchedule("0 2 * * *", "Europe/London", jitter=300, key="job_a")
    assert moved.delay == timedelta(seconds=22)
    begin, end = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 30, tzinfo=UTC)
    expected = [fire + moved.delay for fire in plain.fires(begin, end)]
    assert list(moved.fires(begin, end)) == expected
    assert moved.fires_between(begin, end, 10) == expected[-10:]
    assert moved.next_after(expected[0]) == expected[1]
    assert moved.next_after(expected[0] - timedelta(microseconds=1)) == expected[0]
    assert CronSchedule("0 2 * * *", jitter=0, key="job_a").delay == timedelta(0)


def test_jitter_spreads_a_thousand_schedules() -> None:
    """1,000 keys over 60 s: every second has some, and none has four times its share."""
    delays = [CronSchedule("0 2 * * *", jitter=59, key=f"job_{n}").delay.seconds for n in range(1_000)]
    counts = [delays.count(second) for second in range(60)]
    assert min(counts) > 0
    assert max(counts) < 4 * 1_000 / 60
    assert max(delays) == 59


@pytest.mark.parametrize("jitter", [-1, limits.CRON_JITTER_MAX + 1])
def test_jitter_has_a_limit(jitter: int) -> None:
    """0 to an hour."""
    CronSchedule("0 2 * * *", jitter=limits.CRON_JITTER_MAX, key="job_a")
    with pytest.raises(ValidationError, match="jitter lies between 0 and 3,600 s") as caught:
        CronSchedule("0 2 * * *", jitter=jitter, key="job_a")
    assert caught.value.field == "jitter"
