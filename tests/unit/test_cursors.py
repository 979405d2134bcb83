"""Cursors: they lead back to exactly the run they came from, and only in their own list."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobdeck.client import cursors
from jobdeck.errors import ValidationError
from jobdeck.ids import new_id
from jobdeck.model import RunFilter, RunKey, TeamScope
from jobdeck.states import Status

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
SCOPE = TeamScope(new_id(), "acme")

uuids = st.integers(0, 2**128 - 1).map(lambda number: UUID(int=number))
texts = st.none() | st.text(max_size=20)
filters = st.builds(
    RunFilter,
    statuses=st.frozensets(st.sampled_from(sorted(Status))),
    job_type=texts,
    queue=texts,
    category=texts,
    project=texts,
    text=texts,
)


@given(uuids, st.integers(0, 10**15), filters)
def test_back_to_the_run(run_id: UUID, microseconds: int, chosen: RunFilter) -> None:
    """Time to the microsecond and id, in text that needs no quoting in a shell or URL."""
    created = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    text = cursors.encode(RunKey(created, run_id), SCOPE, chosen)
    assert cursors.decode(text, SCOPE, chosen) == RunKey(created, run_id)
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@given(filters, filters)
def test_another_filter(one: RunFilter, other: RunFilter) -> None:
    """A cursor passes for an equal filter and for no other one."""
    text = cursors.encode(RunKey(NOW, new_id()), SCOPE, one)
    if one == other:
        cursors.decode(text, SCOPE, other)
    else:
        with pytest.raises(ValidationError):
            cursors.decode(text, SCOPE, other)


def test_parts_of_a_filter_do_not_run_into_each_other() -> None:
    """A text in one part of the filter is not the same text in another, and `None` is not nothing."""
    chosen = [
        RunFilter(),
        RunFilter(queue="a"),
        RunFilter(category="a"),
        RunFilter(queue=""),
        RunFilter(queue="None"),
    ]
    for one in chosen:
        text = cursors.encode(RunKey(NOW, new_id()), SCOPE, one)
        for other in chosen:
            if other != one:
                with pytest.raises(ValidationError):
                    cursors.decode(text, SCOPE, other)


def test_a_moving_window_is_the_same_list() -> None:
    """`since` and `until` move with the clock from page to page."""
    chosen = RunFilter(queue="a", since=NOW, until=NOW)
    text = cursors.encode(RunKey(NOW, new_id()), SCOPE, chosen)
    cursors.decode(text, SCOPE, replace(chosen, since=NOW + timedelta(hours=1), until=None))


def test_another_team() -> None:
    """The same filter of another team is another list."""
    text = cursors.encode(RunKey(NOW, new_id()), SCOPE, RunFilter())
    with pytest.raises(ValidationError):
        cursors.decode(text, TeamScope(new_id(), "acme"), RunFilter())


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda data: data.hex()))
def test_any_text(text: str) -> None:
    """Nothing but ValidationError comes out of what was never a cursor."""
    with pytest.raises(ValidationError) as caught:
        cursors.decode(text, SCOPE, RunFilter())
    assert caught.value.field == "cursor"


@given(st.integers(0, 39), st.sampled_from("ABab01-_!=+/ \n\x00ä"))
def test_one_character_changed(place: int, char: str) -> None:
    """Any single change is noticed."""
    text = cursors.encode(RunKey(NOW, new_id()), SCOPE, RunFilter())
    changed = text[:place] + char + text[place + 1 :]
    if changed != text:
        with pytest.raises(ValidationError):
            cursors.decode(changed, SCOPE, RunFilter())
