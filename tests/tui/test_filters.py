"""The language of the filter line."""

from __future__ import annotations

import contextlib
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobdeck.errors import ValidationError
from jobdeck.states import GROUPS, Label, Status
from jobdeck_tui.filters import FilterLine, complete, parse_filter
from tests.tui.fake_client import NOW


def test_every_field_reaches_the_filter() -> None:
    """What is written after `/` is what the client is asked for."""
    line = (
        'status:failed,dead type:http_sync queue:x category:sync project:web since:1h until:10m "two words"'
    )
    found = parse_filter(line).to_run_filter(NOW)
    assert found.statuses == {"failed", "dead"}
    assert (found.job_type, found.queue, found.category, found.project) == ("http_sync", "x", "sync", "web")
    assert (found.since, found.until) == (NOW - timedelta(hours=1), NOW - timedelta(minutes=10))
    assert found.text == "two words"


def test_groups_and_negation() -> None:
    """A group is its statuses; a negated status is all the others."""
    assert parse_filter("group:failed").statuses == GROUPS["failed"]
    assert parse_filter("!status:completed").statuses == set(Status) - {Status.COMPLETED}
    assert parse_filter("status:failed status:held").statuses == {"failed", "held"}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("status:faild", "did you mean failed"),
        ("group:broken", "choose from"),
        ("stauts:failed", "did you mean status:"),
        ("since:yesterday", "is not a time"),
        ("!type:x", "only a status can be negated"),
        ("status:", "needs a value"),
        ("x" * 600, "at most 512"),
    ],
)
def test_a_wrong_word_is_named(line: str, told: str) -> None:
    """The error says which word is wrong and what would be right."""
    with pytest.raises(ValidationError, match=told):
        parse_filter(line)


names = st.text("abcxyz_-019", min_size=1, max_size=8)
lines = st.builds(
    FilterLine,
    statuses=st.frozensets(st.sampled_from([str(name) for name in (*Status, *Label)]), max_size=4),
    job_type=st.none() | names,
    queue=st.none() | names,
    category=st.none() | names,
    project=st.none() | names,
    since=st.none() | st.sampled_from(["1h", "30m", "2026-01-31T10:30:00Z"]),
    until=st.none() | st.sampled_from(["5m", "1d"]),
    text=st.none() | st.sampled_from(["sync", "two words", "a:b", "!status:x", "12:30"]),
)


@given(lines)
def test_text_and_back(chosen: FilterLine) -> None:
    """The line a filter is shown as parses to the same filter."""
    assert parse_filter(chosen.to_text()) == chosen


@given(st.text(max_size=40))
def test_any_line_is_a_filter_or_a_clear_error(line: str) -> None:
    """No input crashes the parser, and what it accepts can be asked of the client."""
    with contextlib.suppress(ValidationError):
        parse_filter(line).to_run_filter(NOW)


def test_the_group_of_a_filter() -> None:
    """The header marks the group that the statuses are, and none for a mixture."""
    assert FilterLine().group == "all"
    assert FilterLine().with_group("failed").group == "failed"
    assert FilterLine(statuses=frozenset({"failed"})).group is None


def test_completion() -> None:
    """Fields, then values; the rest of the line stays."""
    assert complete("sta", ()) == "status:"
    assert complete("queue:x status:fai", ()) == "queue:x status:failed"
    assert complete("status:dead,comp", ()) == "status:dead,completed"
    assert complete("type:http", ["http_sync"]) == "type:http_sync"
    assert complete("!status:comp", ()) == "!status:completed"
    assert complete("words", ()) is None
    assert complete("", ()) is None
