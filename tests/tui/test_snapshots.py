"""A few pictures of whole screens; everything else is tested on text. `--snapshot-update` draws them anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from jobdeck.model import Attempt, Progress, Run
from jobdeck.states import FailureKind
from jobdeck_tui.app import Console
from jobdeck_tui.feed import Pace
from tests.tui.deck import Deck, Seconds
from tests.tui.fake_client import NOW, FakeClient, make_run, make_type
from tests.tui.test_fields import SCHEMA

SnapCompare = Callable[..., bool]


def made(run: Run, minutes: float) -> Run:
    """The run, made so many minutes ago."""
    created = NOW - timedelta(minutes=minutes)
    started = created + timedelta(seconds=1) if run.started_at else None
    ended = created + timedelta(seconds=13.3) if run.finished_at else None
    return replace(run, created_at=created, started_at=started, finished_at=ended)


@pytest.fixture
def client() -> FakeClient:
    """One run of every kind."""
    client = FakeClient()
    client.types.all = [make_type(schema=SCHEMA, description="Pulls a paginated source into a table.")]
    done = Progress(300, 300, 2, 20, "Synced 280 users, 20 skipped")
    asked: dict[str, Any] = {"cancel_requested_at": NOW - timedelta(seconds=40), "cancel_requested_by": "bob"}
    runs = [
        make_run(12, status="pending", label="scheduled", due_at=NOW + timedelta(minutes=5)),
        make_run(11, status="pending", label="held", held_reason="no live worker knows the type 'x'"),
        make_run(10, status="pending"),
        make_run(9, status="running", progress=Progress(180, 290, 0, 20, "Synced 180 users, 20 skipped")),
        make_run(8, status="running", label="cancelling", progress=Progress(90, 290), **asked),
        make_run(7, status="running", label="stalled", progress=Progress(1_234)),
        make_run(6, progress=done, name="Nightly users"),
        make_run(5, status="failed", error="HTTP 500 from https://api.test/users?page=7"),
        make_run(4, status="dead", error="crashed 3 times", failure_kind=FailureKind.CRASHED),
        make_run(3, status="cancelled", cancel_reason="wrong source", **asked),
        make_run(2, status="expired"),
        make_run(1, progress=done),
    ]
    for number, run in enumerate(runs):
        client.runs.put(made(run, 0.3 + number * number))
    attempts = (
        Attempt(1, 1, None, "node1:4711", NOW, NOW + timedelta(seconds=9), "crashed", "lost its lease", None),
        Attempt(2, 2, None, "node2:815", NOW, None, None, None, None),
    )
    open_run = client.runs.by_id[runs[3].id]
    client.runs.put(replace(open_run, attempts=attempts, attempt=2, params={"url": "https://api.test/users"}))
    client.runs.say(open_run.id, "page 1", "page 2", "page 3")
    client.runs.say(open_run.id, "429: waiting 2 s", level="warn")
    client.runs.say(open_run.id, "resuming at page 3", attempt=2)
    return client


def picture(
    snap_compare: SnapCompare, client: FakeClient, *keys: str, size: tuple[int, int] = (80, 24)
) -> bool:
    """Whether the screen after these keys is the stored picture."""
    seconds = Seconds()
    console = Console(client, pace=Pace(poll=60, gap=0), now=lambda: NOW, monotonic=seconds)

    async def before(pilot: Pilot[int]) -> None:
        deck = Deck(console, pilot, client, seconds)
        await deck.settle()
        for key in keys:
            await deck.press(key)
        for field in console.screen.query(Input):
            # On a slow machine the picture would be taken while the cursor is dark.
            field.cursor_blink = False
        await deck.settle()

    return snap_compare(console, terminal_size=size, run_before=before)


def test_the_list(snap_compare: SnapCompare, client: FakeClient) -> None:
    """Every status with glyph, word and colour; cursor, bars, counts, hints."""
    assert picture(snap_compare, client, "j", "j", "j")


def test_the_list_on_a_wide_terminal(snap_compare: SnapCompare, client: FakeClient) -> None:
    """More columns from 110 cells on."""
    assert picture(snap_compare, client, "j", size=(120, 30))


def test_a_run(snap_compare: SnapCompare, client: FakeClient) -> None:
    """Summary, sections and log of an open run, with the question before a cancel."""
    assert picture(snap_compare, client, "j", "j", "j", "enter", "c")


def test_the_form(snap_compare: SnapCompare, client: FakeClient) -> None:
    """Required marks, defaults, choices, and an error at its field."""
    assert picture(snap_compare, client, "t", "enter", "ctrl+s")


def test_the_help(snap_compare: SnapCompare, client: FakeClient) -> None:
    """Every key, by topic."""
    assert picture(snap_compare, client, "question_mark", size=(80, 70))
