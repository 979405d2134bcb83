"""What is a cron expression and what is refused: with a reason, with what to write instead, and at once."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobdeck import limits
from jobdeck.cron import CronSchedule, find_zone
from jobdeck.cron.pattern import read_pattern
from jobdeck.errors import ValidationError

NOW = datetime(2026, 11, 26, 8, 0, tzinfo=UTC)
# Of CPU time; a request that is refused must not hold up the others.
REFUSED_WITHIN = 0.050


def refusal(expression: str, timezone: str = "UTC") -> ValidationError:
    """The error of an expression that must be refused."""
    with pytest.raises(ValidationError) as caught:
        CronSchedule(expression, timezone).check(NOW)
    return caught.value


@pytest.mark.parametrize(
    ("expression", "why", "instead"),
    [
        # Never, or not soon.
        ("0 0 30 2 *", "February has no day 30", None),
        ("0 0 31 2 *", "February has no day 31", None),
        ("0 0 31 4,6,9,11 *", "April, June, September, November have no day 31", None),
        ("0 0 30W 2 *", "February has no day 30", None),
        ("0 0 1-7 */2 */3,8", "out of range", None),
        ("0 0 */30 * 1#2", "no date fits both", None),
        ("0 0 * 2 1#5", "first on 2044-02-29", None),
        # More or fewer than five fields, nicknames, what differs from process to process.
        ("*/10 * * * * *", "6 fields, and seconds", None),
        ("0 0 * * * * 2026", "7 fields", None),
        ("0 0 * *", "4 fields", None),
        ("daily", "1 field;", None),
        ("", "0 fields", None),
        ("@daily", "nicknames", "0 0 * * *"),
        ("@reboot", "'@' has no meaning", None),
        ("R R * * *", "another time; jitter", None),
        ("H * * * *", "another time; jitter", None),
        ("H/15 * * * *", "another time; jitter", None),
        ("H(0-29) * * * *", "'(' has no meaning", None),
        # Values.
        ("60 * * * *", "minute 60: it is out of range, minute is 0 to 59", None),
        ("0 24 * * *", "hour 24: it is out of range", "0 for midnight"),
        ("0 0 0 * *", "day-of-month is 1 to 31", None),
        ("0 0 32 * *", "day-of-month is 1 to 31", None),
        ("0 0 * 0 *", "month is 1 to 12", None),
        ("0 0 * 13 *", "month is 1 to 12", None),
        ("0 0 * * 8", "day-of-week is 0 to 7", None),
        ("-5 * * * *", "none of", None),
        ("0 0 * * MONDAY", "three letters", "MON"),
        ("0 0 * FEBR *", "three letters", "FEB"),
        ("0 0 * * XYZ", "no name or number", None),
        ("MON * * * *", "no number", None),
        # Ranges and steps.
        ("5-1 * * * *", "runs backwards", "5-59,0-1"),
        ("0 22-4 * * *", "runs backwards", "22-23,0-4"),
        ("0 22-4/2 * * *", "runs backwards", "22,0,2,4"),
        ("0 23-0 * * *", "runs backwards", "23,0"),
        ("0 0 * * 5-1", "runs backwards", "5-6,0-1"),
        ("0 0 * * 7-2", "runs backwards", "0-2"),
        ("0 0 * NOV-FEB *", "runs backwards", "11-12,1-2"),
        ("5-5 * * * *", "one value", "5"),
        ("0 0 * * MON-MON", "one value", "1"),
        ("0 0 * * SUN-SUN", "one value", "0"),
        ("*/60 * * * *", "leads past 59", "0"),
        ("*/100 * * * *", "leads past 59", "0"),
        ("0 */24 * * *", "leads past 23", "0"),
        ("0 0 */31 * *", "leads past 31", "1"),
        ("0 0 * */12 *", "leads past 12", "1"),
        ("0 0 * * */7", "leads past 6", "0, or 0#1 for the first one of the month"),
        ("10-20/15 * * * *", "leads past 20", "10"),
        ("*/0 * * * *", "at least 1", "*"),
        ("59/15 * * * *", "differently by every cron", "59"),
        ("0/15 * * * *", "differently by every cron", "*/15"),
        ("5/15 * * * *", "differently by every cron", "5-59/15"),
        ("*,5 * * * *", "every value already", "*"),
        ("1,,2 * * * *", "minute nothing", None),
        (", * * * *", "minute nothing", None),
        ("1-2-3 * * * *", "none of", None),
        ("*/5/5 * * * *", "none of", None),
        ("*-5 * * * *", "none of", None),
        # Days by their place in the month.
        ("? * * * *", "none of", None),
        ("0 0 1,? * *", "none of", None),
        ("0 0 * * L", "needs a day", "5L"),
        ("0 0 * * 5#6", "first to the fifth", "5#1 to 5#5"),
        ("0 0 * * 5#0", "first to the fifth", "5#1 to 5#5"),
        ("0 0 * * 1,5#2", "do not mix", None),
        ("0 0 1,15W * *", "stands alone", "15W"),
        ("0 0 LW * *", "no number", None),
        ("0 0 L-3 * *", "no number", None),
        ("0 L * * *", "no number", None),
        # Characters.
        ("0 0 * * 1;2", "';' has no meaning", None),
        ("0 0 * * *\n", r"'\n' has no meaning", None),
        ("٣ * * * *", r"'\u0663' has no meaning", None),
        ("0\u00a00 * * *", r"'\xa0' has no meaning", None),
        ("\x1b[2J * * * *", r"'\x1b' has no meaning", None),
    ],
)  # fmt: skip
def test_what_is_refused_and_why(expression: str, why: str, instead: str | None) -> None:
    """One line, with the field `cron`, the reason, and the text to write instead where there is one."""
    error = refusal(expression)
    assert error.field == "cron"
    assert why in error.message
    assert error.message.isprintable()
    assert len(error.message) < 300
    found = re.search(r"; write (.*)$", error.message)
    if instead is not None:
        assert found
        assert found[1] == instead


@pytest.mark.parametrize(
    "expression",
    ["5-1 * * * *", "0 22-4 * * *", "0 22-4/2 * * *", "0 23-0 * * *", "0 0 * * 5-1", "0 0 * * 7-2", "5-5 * * * *",
     "0 0 * * MON-MON", "0 0 * NOV-FEB *", "*/60 * * * *", "0 */24 * * *", "0 0 */31 * *", "0 0 * * */7",
     "10-20/15 * * * *", "*/0 * * * *", "59/15 * * * *", "0/15 * * * *", "5/15 * * * *", "*,5 * * * *",
     "0 0 * * MONDAY", "@daily", "@weekly", "0 24 * * *", "0 0 * * L", "0 0 1,15W * *"],
)  # fmt: skip
def test_what_to_write_instead_is_accepted(expression: str) -> None:
    """Advice that is followed leads to a schedule."""
    message = refusal(expression).message
    advice = message.rpartition("; write ")[2]
    words = expression.split()
    if len(words) == 5:
        field = ("minute", "hour", "day-of-month", "month", "day-of-week").index(message.split()[0])
        words[field] = re.split(r",? (?:or|for) ", advice)[0]
        advice = " ".join(words)
    CronSchedule(advice).check(NOW)


@pytest.mark.parametrize(
    "expression",
    ["* * * * *", " 30  2\t* * 1-5 ", "05 02 * * *", "0 0 * jan,FEB Mon-fri", "0 0 ? * 1", "0 0 1 * ?", "*/59 * * * *",
     "0 0 29 2 1", "0 0 13 * 5", "0 0 L * *", "0 0 15,L * *", "0 0 15W * *", "0 0 * * 5#2", "0 0 * * FRI#2,5L",
     "0 0 * * SATL", "0 0 * * FRI-SUN", "0 0 * * 0-7", "0 0 29 2 *", "7,*/20 1 * * *",
     "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33 * * * *"],
)  # fmt: skip
def test_what_is_accepted(expression: str) -> None:
    """Names in any case, `?`, `L`, `W` and `#` where they mean something, leading zeros, a list of 90 characters."""
    schedule = CronSchedule(expression)
    schedule.check(NOW)
    assert schedule.next_after(NOW) > NOW


def test_the_limit_of_characters() -> None:
    """100 are read, 101 are not, and the message does not repeat them."""
    expression = "0 0 * * *" + " " * (limits.CRON_CHARS - 9)
    CronSchedule(expression)
    assert "at most 100 characters, this one has 101" in refusal(expression + " ").message


def _plain_values(low: int, high: int, step: int, size: int) -> set[int]:
    return {value % size for value in range(low, high + 1, step)}


def test_every_range_and_step_of_a_week_means_its_days() -> None:
    """All of them, with Sunday as 0 and as 7: the parser gives the plain values."""
    for low in range(7):
        for high in range(low + 1, 8):
            for step in range(1, high - low + 1):
                found = read_pattern(f"0 0 * * {low}-{high}/{step}")
                assert found.days.weekdays == _plain_values(low, high, step, 7), (low, high, step)


@given(st.integers(0, 58), st.integers(1, 59), st.integers(1, 59), st.integers(1, 22), st.integers(1, 10))
def test_ranges_and_steps_mean_their_values(low: int, width: int, step: int, hour: int, hours: int) -> None:
    """Minutes and hours of any range."""
    high, late = min(low + width, 59), min(hour + hours, 23)
    step = min(step, high - low)
    found = read_pattern(f"{low}-{high}/{step} {hour}-{late} * * *")
    assert found.minutes == set(range(low, high + 1, step))
    assert found.hours == set(range(hour, late + 1))


def spent(work: Callable[[], object]) -> float:
    """Seconds of CPU time, the best of three, because a collection of garbage may fall into one."""
    times = []
    for _ in range(3):
        begin = time.thread_time()
        work()
        times.append(time.thread_time() - begin)
    return min(times)


def judge(expression: str, timezone: str = "UTC") -> ValidationError | datetime:
    """The first fire, or why there is none."""
    try:
        schedule = CronSchedule(expression, timezone)
        schedule.check(NOW)
        return schedule.next_after(NOW)
    except ValidationError as error:
        return error


@pytest.mark.parametrize(
    "expression",
    ["9" * 5_000 + " * * * *", "* * * * " + "9" * 5_000, ",".join(["0-59"] * 20_000) + " * * * *",
     ",".join(["0-59/1"] * 50_000) + " * * * *", "* " * 50_000, "," * 99, "*/" + "9" * 90 + " * * * *",
     "9" * 92 + " * * * *", "1-" + "9" * 80 + " * * * *", "\x00" * 100, "[" * 10_000, "0 0 */30 * 1#2",
     "0 0 31 2,4,6,9,11 *", "0 0 * 2 1#5", "0 0 */30 * 2#4", "-" * 100, "#" * 100, "L" * 100, "@" * 100],
)  # fmt: skip
def test_hostile_text_is_refused_at_once(expression: str) -> None:
    """Thousands of digits and items, the longest searches for a date that never comes: within 50 ms."""
    error = judge(expression)
    assert isinstance(error, ValidationError)
    assert error.field == "cron"
    assert spent(lambda: judge(expression)) < REFUSED_WITHIN


_PIECES = st.sampled_from(
    ["*", "*/", "/", "-", ",", "#", "?", "L", "W", "R", "H", "@", " ", " ", "0", "1", "5", "7", "15", "29", "30", "31",
     "59", "60", "MON", "sun", "FRI", "JAN", "feb", "2", "12", "24", "99999999999", "\t", "\x1b", "é", "(", ")"]
)  # fmt: skip
_FIELD = st.lists(_PIECES.filter(str.strip), min_size=1, max_size=4).map("".join)


@settings(max_examples=1_200, deadline=None)
@given(
    st.one_of(
        st.lists(_FIELD, min_size=5, max_size=5).map(" ".join),
        st.lists(_PIECES, max_size=30).map("".join),
        st.text(max_size=120),
        st.builds(
            "{} {} {} {} {}".format,
            st.sampled_from(["0", "*", "*/7", "0-59/20", "30"]),
            st.sampled_from(["0", "*", "1-3", "*/6", "23"]),
            st.sampled_from(["*", "1", "29", "30", "31", "*/30", "L", "31W", "1-7", "?"]),
            st.sampled_from(["*", "2", "FEB", "4,6", "*/6", "2-3"]),
            st.sampled_from(["*", "1", "5#5", "0L", "*/6", "SAT-SUN", "?", "1#1,2#5"]),
        ),
    )
)
@example("0 0 30 2 *")
@example("0 0 * * 7")
def test_any_text_is_refused_at_once_or_fires(expression: str) -> None:
    """1,200 strings: a printable refusal within 50 ms, or a fire within five years."""
    begin = time.thread_time()
    found = judge(expression)
    if time.thread_time() - begin > REFUSED_WITHIN:
        assert spent(lambda: judge(expression)) < REFUSED_WITHIN
    if isinstance(found, ValidationError):
        assert found.field == "cron"
        assert found.message.isprintable()
        assert len(found.message) < 300
    else:
        assert NOW < found <= NOW + timedelta(days=5 * 366)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("Europe/Londn", "did you mean Europe/London"),
        ("europe/london", "did you mean Europe/London?"),
        ("London", "did you mean Europe/London?"),
        ("new york", "did you mean America/New_York?"),
        ("utc", "did you mean UTC?"),
        ("Asia/Calcuta", "Asia/Calcutta"),
        ("Mars/Olympus", "write one like Europe/London"),
        ("", "write one like"),
        ("Europe", "there is no time zone 'Europe'"),
        ("../../etc/passwd", "there is no time zone"),
        ("/etc/localtime", "there is no time zone"),
        ("localtime", "there is no time zone"),
        ("right/UTC", "there is no time zone"),
        ("Europe//London", "there is no time zone"),
        ("UTC\x00", r"'UTC\x00'"),
        ("\ud800", r"'\ud800'"),
        ("x" * 5_000, "there is no time zone"),
        ("A/" * 2_000, "there is no time zone"),
    ],
)
def test_unknown_zones_are_refused_with_those_like_them(name: str, advice: str) -> None:
    """The field is `timezone`, the message names what was meant, nothing outside the zones is opened, within 50 ms."""
    error = refusal("0 0 * * *", name)
    assert error.field == "timezone"
    assert advice in error.message
    assert error.message.isprintable()
    assert len(error.message) < 300
    assert spent(lambda: judge("0 0 * * *", name)) < REFUSED_WITHIN


@pytest.mark.parametrize(
    "name", ["UTC", "Europe/London", "America/Argentina/ComodRivadavia", "Etc/GMT+5", "EST5EDT"]
)
def test_zones_that_are_known(name: str) -> None:
    """Any name of the IANA database, old ones included."""
    assert str(find_zone(name)) == name
