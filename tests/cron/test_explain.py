"""Expressions in plain English, and what is said beside them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from jobdeck.cron import explain
from jobdeck.errors import ValidationError

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "summary"),
    [
        ("* * * * *", "Every minute"),
        ("*/5 * * * *", "Every 5 minutes"),
        ("0,30 * * * *", "Every 30 minutes"),
        ("0 * * * *", "Every hour, on the hour"),
        ("15 * * * *", "Every hour, at minute 15"),
        ("*/7 * * * *", "Every 7 minutes of each hour"),
        ("*/7 9-17 * * *", "Every 7 minutes of each hour from 09:00 to 17:56"),
        ("1-59/2 * * * *", "Every 2 minutes from :01 to :59 of every hour"),
        ("0 0 */2 * 1", "At 00:00, on every 2nd of days 1 to 31 of the month, if that is Monday"),
        ("0 0 10,20,30 * *", "At 00:00, on days 10, 20 and 30 of the month"),
        ("5,20 * * * *", "At minutes 5 and 20 of every hour"),
        ("0 */2 * * *", "Every 2 hours, on the hour"),
        ("30 2 * * *", "At 02:30, every day"),
        ("30 2 * * 1-5", "At 02:30, Monday to Friday"),
        ("0 9,17 * * MON,WED,FRI", "At 09:00 and 17:00, every Monday, Wednesday and Friday"),
        ("*/20 1 * * *", "At 01:00, 01:20 and 01:40, every day"),
        ("15,45 1-2 * * *", "At 01:15, 01:45, 02:15 and 02:45, every day"),
        ("0 9-17 * * 1-5", "Every hour from 09:00 to 17:00, Monday to Friday"),
        ("*/15 9-17 * * 1-5", "Every 15 minutes from 09:00 to 17:45, Monday to Friday"),
        ("* 2 * * *", "Every minute from 02:00 to 02:59"),
        ("5-10 14 * * 0", "Every minute from 14:05 to 14:10, every Sunday"),
        ("*/10 */6 * * *", "Every 10 minutes in the hours 00, 06, 12 and 18"),
        ("0 0 * * 6,0", "At 00:00, every Saturday and Sunday"),
        ("0 0 * * 5-7", "At 00:00, Friday to Sunday"),
        ("0 0 1 * *", "At 00:00, on day 1 of the month"),
        ("0 0 1,15 * *", "At 00:00, on days 1 and 15 of the month"),
        ("0 0 1-7 1,7 *", "At 00:00, on days 1 to 7 of January and July"),
        ("0 0 29 2 *", "At 00:00, on 29 February"),
        ("0 12 * 6-8 *", "At 12:00, every day from June to August"),
        ("0 12 * 12 6", "At 12:00, every Saturday in December"),
        ("0 0 13 * 5", "At 00:00, on day 13 of the month and also every Friday"),
        ("0 0 1-7 * */6", "At 00:00, on days 1 to 7 of the month, if that is Saturday or Sunday"),
        ("0 0 1-31 * 1", "At 00:00, every day"),
        ("0 0 1 3 1#1", "At 00:00, on day 1 of March and also on the first Monday in March"),
        ("0 0 L * *", "At 00:00, on the last day of the month"),
        ("0 0 15,L * *", "At 00:00, on day 15 and the last day of the month"),
        ("0 0 15W * *", "At 00:00, on the working day nearest to day 15 of the month"),
        ("0 8 * * 1#1", "At 08:00, on the first Monday of the month"),
        ("0 8 * 3 5L", "At 08:00, on the last Friday of March"),
    ],
)  # fmt: skip
def test_typical_expressions_in_words(expression: str, summary: str) -> None:
    """One line that says the same as the expression."""
    assert explain(expression, "UTC", NOW).summary == summary


@pytest.mark.parametrize(
    ("expression", "remark"),
    [
        ("0 0 13 * 5", "a day that fits one of them is enough"),
        ("0 0 */2 * 1", "a day must fit both day-of-month and day-of-week"),
        ("*/7 * * * *", "*/7 begins again every hour, so that the last step is 4 minutes"),
        ("0 */5 * * *", "*/5 begins again every day, so that the last step is 4 hours"),
        ("*/59 * * * *", "so that the last step is 1 minute"),
        ("0 0 31 * *", "months without a day 31 have no fire"),
        ("0 0 29 2 *", "29 February comes in leap years only"),
    ],
)
def test_what_is_easily_read_otherwise_is_said(expression: str, remark: str) -> None:
    """Two fields of days, uneven steps, short months."""
    assert any(remark in text for text in explain(expression, "UTC", NOW).remarks)


@pytest.mark.parametrize(
    "expression", ["30 2 * * *", "*/15 * * * *", "0 */6 * * 1-5", "0 0 1 * *", "0 0 L * *"]
)
def test_plain_expressions_have_no_remark(expression: str) -> None:
    """Nothing is said where nothing can be misread."""
    found = explain(expression, "Asia/Kolkata", NOW)
    assert (found.remarks, found.clock_remarks) == ((), ())


@pytest.mark.parametrize(
    ("expression", "zone", "texts"),
    [
        ("30 1 * * *", "Europe/London", [
            "2026-03-29: clocks go forward from 01:00 to 02:00; 01:30 does not exist and fires at 02:00+0100",
            "2026-10-25: clocks go back from 02:00 to 01:00; 01:30 comes twice and fires the first time only",
        ]),
        ("15,45 1-2 * * *", "Europe/London", [
            "2026-03-29: clocks go forward from 01:00 to 02:00; 01:15 and 01:45 do not exist and fire once, at "
            "02:00+0100",
            "2026-10-25: clocks go back from 02:00 to 01:00; 01:15 and 01:45 come twice and fire the first time only",
        ]),
        ("0-59/15 2,3 * * *", "America/New_York", [
            "2026-03-08: clocks go forward from 02:00 to 03:00; 02:00, 02:15, 02:30 and 1 more do not exist and fire "
            "once, at 03:00-0400, together with the fire of that time",
        ]),
        ("0 * * * *", "Europe/London", [
            "2026-03-29: clocks go forward from 01:00 to 02:00; 01:00 does not exist and does not fire (real time)",
            "2026-10-25: clocks go back from 02:00 to 01:00; 01:00 comes twice and fires both times (real time)",
        ]),
        ("*/20 1 * * *", "Australia/Lord_Howe", [
            "2026-04-05: clocks go back from 02:00 to 01:30; 01:40 comes twice and fires both times (real time)",
        ]),
    ],
)  # fmt: skip
def test_what_clock_changes_do_is_said(expression: str, zone: str, texts: list[str]) -> None:
    """For each change of the year ahead that touches a fire: when, which times, and what happens."""
    found = explain(expression, zone, NOW)
    assert [remark.text for remark in found.clock_remarks] == texts
    assert all(remark.at > NOW for remark in found.clock_remarks)


def test_changes_that_touch_nothing_are_named_together() -> None:
    """Who asks about London at noon learns that the changes were looked at."""
    found = explain("0 12 * * *", "Europe/London", NOW)
    assert found.clock_remarks == ()
    assert found.remarks == (
        "the clock changes of the year ahead (2026-03-29 and 2026-10-25) touch none of its fires",
    )


def test_the_next_fires_are_those_of_the_zone() -> None:
    """As many as asked for, with the offset of their day."""
    found = explain("30 2 * * *", "America/New_York", datetime(2026, 3, 7, 12, tzinfo=UTC), 3)
    shown = [fire.isoformat() for fire in found.fires]
    assert shown == ["2026-03-08T03:00:00-04:00", "2026-03-09T02:30:00-04:00", "2026-03-10T02:30:00-04:00"]


@pytest.mark.parametrize("expression", ["0 0 30 2 *", "0 0 * 2 1#5", "* * * *"])
def test_what_is_refused_is_not_explained(expression: str) -> None:
    """The same refusals as when it is saved."""
    with pytest.raises(ValidationError):
        explain(expression, "UTC", NOW)
