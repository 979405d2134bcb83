"""Durations and times as people write them: read, written back, and refused without surprises."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic import ValidationError as PydanticError

from jobdeck.clock import from_us, to_us
from jobdeck.durations import Duration, format_duration, parse_duration, parse_time, parse_when
from jobdeck.errors import ValidationError

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
spans = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=3_660))
moments = st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(9997, 1, 1)).map(  # noqa: DTZ001  gets a zone
    lambda value: value.replace(tzinfo=UTC)
)


@given(spans)
def test_what_is_written_reads_back(span: timedelta) -> None:
    """Every duration, to the microsecond, is written in a form that means exactly the same."""
    assert parse_duration(format_duration(span)) == span


@given(st.text(max_size=30))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    """Nothing but ValidationError comes out, and a duration is in range."""
    try:
        span = parse_duration(text)
    except ValidationError as error:
        refused = error.message
        assert len(refused) < 800
    else:
        assert timedelta(0) <= span <= timedelta(days=3_660)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("1h", 3_600), ("7d", 604_800), ("250ms", 0.25), ("1.5h", 5_400), (" 2s ", 2),
     (90, 90), (0.5, 0.5), ("0s", 0), (timedelta(seconds=3), 3)],
)  # fmt: skip
def test_forms_that_are_read(text: str | float | timedelta, seconds: float) -> None:
    """Units from milliseconds to days; a bare number is seconds."""
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    ["", "5", "m", "-5m", "5 m", "5M", "1h30m", "5w", "1e3s", "0x5s", "9999999999s",
     "9999999999999ms", "3661d", "5m\x00", "1.0000001s",
     -1, float("nan"), float("inf"), True, 10**30],
)  # fmt: skip
def test_forms_that_are_refused(text: str | float) -> None:
    """What is ambiguous, negative or out of range is refused in one line."""
    with pytest.raises(ValidationError) as caught:
        parse_duration(text)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (90, "90s"), (300, "5m"), (3_600, "1h"), (86_400, "1d"), (129_600, "36h"), (0.25, "250ms"),
     (1.5, "1500ms"), (0.000001, "0.001ms")],
)  # fmt: skip
def test_how_they_are_written(seconds: float, text: str) -> None:
    """The largest unit that is exact."""
    assert format_duration(seconds) == text
    assert format_duration(timedelta(seconds=seconds)) == text


def test_a_field_of_a_model() -> None:
    """As a pydantic field it reads text and seconds, and writes text."""

    class Model(BaseModel):
        every: Duration

    assert Model.model_validate({"every": "5m"}).every == timedelta(minutes=5)
    assert Model(every=timedelta(seconds=90)).model_dump(mode="json") == {"every": "90s"}
    with pytest.raises(PydanticError, match="is not a duration"):
        Model.model_validate({"every": "soon"})


@given(moments, st.integers(min_value=-14 * 60, max_value=14 * 60))
def test_times_in_any_zone_are_the_same_time(moment: datetime, minutes: int) -> None:
    """ISO 8601 reads back as the same point in time, in UTC."""
    local = moment.astimezone(timezone(timedelta(minutes=minutes)))
    found = parse_time(local.isoformat())
    assert found == moment
    assert found.tzinfo is UTC


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    """Nothing but ValidationError comes out, and a time can be stored and read back."""
    for read in (parse_time, lambda value: parse_when(value, NOW)):
        try:
            found = read(text)
        except ValidationError as error:
            refused = error.message
            assert len(refused) < 800
        else:
            assert from_us(to_us(found)) == found


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1h", NOW - timedelta(hours=1)),
        ("2026-01-31T10:30:00Z", datetime(2026, 1, 31, 10, 30, tzinfo=UTC)),
        ("2026-01-31T10:30:00+05:30", datetime(2026, 1, 31, 5, 0, tzinfo=UTC)),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("1970-01-01T00:00:00+14:00", datetime(1969, 12, 31, 10, 0, tzinfo=UTC)),
        ("9998-12-31T23:59:59-23:59", datetime(9999, 1, 1, 23, 58, 59, tzinfo=UTC)),
    ],
)
def test_points_in_time(text: str, wanted: datetime) -> None:
    """Relative before now, or absolute; without a zone it is UTC."""
    assert parse_when(text, NOW) == wanted


@pytest.mark.parametrize(
    "text", ["", "now", "1969-12-31", "9999-01-01", "2026-13-01", "99999999d", "12:00", "x" * 10_000]
)
def test_what_is_no_point_in_time(text: str) -> None:
    """Refused in one short line."""
    with pytest.raises(ValidationError) as caught:
        parse_when(text, NOW)
    assert len(caught.value.message) < 200


@given(moments)
def test_microseconds_and_back(moment: datetime) -> None:
    """Times are stored as integers without losing anything."""
    assert from_us(to_us(moment)) == moment


@given(st.integers(min_value=-62_000_000_000_000_000, max_value=253_000_000_000_000_000))
def test_stored_times_come_back_exactly(microseconds: int) -> None:
    """The other way round too, for every time a datetime can hold."""
    assert to_us(from_us(microseconds)) == microseconds


def test_a_time_without_a_zone_is_refused() -> None:
    """It is not a point in time."""
    with pytest.raises(ValueError, match="without a time zone"):
        to_us(datetime(2026, 1, 1))  # noqa: DTZ001  what is refused
