"""The section on cron in the reference says what the code does."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobdeck import limits
from jobdeck.cron import CronSchedule
from jobdeck.errors import ValidationError

NOW = datetime(2026, 11, 26, tzinfo=UTC)
PAGE = (Path(__file__).parents[2] / "docs" / "reference.md").read_text()
SECTION = " ".join(PAGE.partition("\n## Cron\n")[2].partition("\n## ")[0].split())
REFUSED = SECTION.partition("**Refused**")[2].partition("**Jitter**")[0]
FIELDS = re.compile(r"`([^` ]+ [^` ]+ [^` ]+ [^` ]+ [^` ]+)`")


@pytest.mark.parametrize(
    "written",
    [
        f"more than {limits.CRON_CHARS} characters",
        "does not fire within five years",
        f"**Jitter** of up to {limits.CRON_JITTER_MAX:,} s",
    ],
)
def test_the_limits_are_those_in_the_code(written: str) -> None:
    """None can change without the page."""
    assert written in SECTION
    assert limits.CRON_YEARS == 5


@pytest.mark.parametrize("expression", FIELDS.findall(SECTION.replace(REFUSED, "")))
def test_expressions_of_the_page_are_accepted(expression: str) -> None:
    """Outside the paragraph on what is refused, all of them."""
    CronSchedule(expression).check(NOW)


@pytest.mark.parametrize("piece", re.findall(r"`([^`]+)`", REFUSED))
def test_what_the_page_says_is_refused_is(piece: str) -> None:
    """Each example, as the whole text where it has five fields or a nickname, else in the field of the minute."""
    with pytest.raises(ValidationError):
        CronSchedule(piece if " " in piece or "@" in piece else f"{piece} * * * *").check(NOW)


@pytest.mark.parametrize(
    ("field", "pieces"),
    [("{} 0 * * *", ["0,30", "*/15", "10-50/20"]), ("0 {} * * *", ["9-17"]), ("0 0 {} * *", ["L", "15W", "?"]),
     ("0 0 * {} *", ["JAN", "DEC"]), ("0 0 * * {}", ["0", "7", "SUN", "SAT", "5#2", "5L", "?"])],
)  # fmt: skip
def test_the_pieces_of_the_table_are_accepted(field: str, pieces: list[str]) -> None:
    """Each in the field in whose row it stands."""
    for piece in pieces:
        assert piece in SECTION
        CronSchedule(field.format(piece)).check(NOW)
