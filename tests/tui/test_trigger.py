"""Triggering by the form: types, defaults, choices, inline errors, the equivalent command."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from jobdeck.errors import AlreadyActive, ValidationError
from jobdeck_tui.widgets.choice import Choice
from tests.tui.conftest import OpenDeck
from tests.tui.fake_client import FakeClient, make_run, make_type


class Params(BaseModel):
    """What the tested type takes."""

    url: str = Field(description="where the records are")
    pages: int = 3
    mode: Literal["upsert", "insert"] = "upsert"
    headers: dict[str, str] = Field(default_factory=dict)


@pytest.fixture(autouse=True)
def types(client: FakeClient) -> None:
    """Two types to choose from, and one of the system."""
    client.types.all = [
        make_type("http_sync", Params.model_json_schema(), description="Pulls records."),
        make_type("noop", live_workers=0),
        make_type("system.sweep", scope="system"),
    ]


async def test_choosing_a_type(open_deck: OpenDeck) -> None:
    """The registered types with what they do and whether a worker lives; none of the system."""
    async with open_deck() as deck:
        await deck.press("t")
        assert "> http_sync" in deck.text
        assert "Pulls records." in deck.text
        assert "no worker" in deck.text
        assert "system.sweep" not in deck.text
        await deck.press("j", "enter")
        assert "trigger noop" in deck.screen[1]
        assert "! no live worker takes this type: the run would wait" in deck.screen[2]
        assert "takes no params" in deck.text


async def test_a_run_by_the_form(open_deck: OpenDeck, client: FakeClient) -> None:
    """Fields have types, defaults and choices; what was changed is sent, and the command shown does the same."""
    async with open_deck() as deck:
        await deck.press("t", "enter")
        assert ">*url" in deck.text
        await deck.type("https://x.test/u")
        await deck.press("enter", "end", "backspace", "5", "tab")
        assert isinstance(deck.focused, Choice)
        await deck.press("space")
        assert "< insert >" in deck.text
        await deck.press("ctrl+s")
        assert client.runs.triggered == [
            ("http_sync", {"url": "https://x.test/u", "pages": 5, "mode": "insert"}, {})
        ]
        assert "[log]" in deck.text
        assert "triggered  $ jobdeck trigger http_sync --params" in deck.screen[-2]
        await deck.press("q")
        assert "http_sync" in deck.cursor_line()


async def test_options_of_the_run(open_deck: OpenDeck, client: FakeClient) -> None:
    """Queue and delay below the params go with the run and into the command."""
    async with open_deck(size=(120, 40)) as deck:
        await deck.press("t", "j", "enter")
        await deck.type("slow")
        await deck.press("down", "down")
        await deck.type("5m")
        await deck.press("ctrl+s")
        assert client.runs.triggered == [("noop", {}, {"queue": "slow", "delay": timedelta(minutes=5)})]
        assert "jobdeck trigger noop --queue slow --delay 5m" in deck.screen[-2]


async def test_errors_stand_at_their_fields(open_deck: OpenDeck, client: FakeClient) -> None:
    """What is missing or of the wrong type is said below the field, which gets the keys; nothing is sent."""
    async with open_deck() as deck:
        await deck.press("t", "enter", "tab", "x", "ctrl+s")
        lines = deck.screen
        url = next(n for n, line in enumerate(lines) if "*url" in line)
        pages = next(n for n, line in enumerate(lines) if " pages" in line)
        assert lines[url + 1].strip() == "! is required"
        assert "! '3x' is not a whole number" in lines[pages + 1]
        assert "! 2 fields to correct" in lines[2]
        assert ">*url" in deck.text
        assert client.runs.triggered == []
        await deck.type("https://x.test")
        await deck.press("tab", "backspace", "ctrl+s")
        assert len(client.runs.triggered) == 1


async def test_what_the_client_refuses_stands_at_its_field(open_deck: OpenDeck, client: FakeClient) -> None:
    """The server's word about a param is shown at the param; what was typed stays."""
    client.runs.refusal = ValidationError("params of http_sync: url: only https is allowed", field="params")
    async with open_deck() as deck:
        await deck.press("t", "enter")
        await deck.type("ftp://x.test")
        await deck.press("ctrl+s")
        assert "! only https is allowed" in deck.text
        assert "ftp://x.test" in deck.text
        client.runs.refusal = ValidationError("queue 'a b' may have letters only", field="queue")
        await deck.press("ctrl+s")
        assert "! queue 'a b' may have letters only" in deck.screen[2]


async def test_an_active_single_flight_run_is_named(open_deck: OpenDeck, client: FakeClient) -> None:
    """The run that stands in the way is in the message."""
    client.runs.refusal = AlreadyActive("already active: run_000042", existing_run_id="run_000042")
    async with open_deck() as deck:
        await deck.press("t", "enter")
        await deck.type("x")
        await deck.press("ctrl+s")
        assert "! already active: run_000042" in deck.screen[2]


async def test_triggering_again_with_the_same_params(open_deck: OpenDeck, client: FakeClient) -> None:
    """t on an open run brings its params into the form, and they are sent."""
    client.runs.put(make_run(1, params={"url": "https://old.test", "pages": 9}))
    async with open_deck() as deck:
        await deck.press("enter", "t")
        assert "https://old.test" in deck.text
        await deck.press("ctrl+s")
        assert client.runs.triggered == [("http_sync", {"url": "https://old.test", "pages": 9}, {})]


async def test_escape_leaves_the_form_and_help_keeps_it(open_deck: OpenDeck, client: FakeClient) -> None:
    """The help opens from a choice and leads back to the form as it was; escape makes no run."""
    async with open_deck() as deck:
        await deck.press("t", "enter")
        await deck.type("https://x.test")
        await deck.press("tab", "tab", "question_mark")
        assert "List of runs" in deck.text
        await deck.press("question_mark")
        assert "https://x.test" in deck.text
        await deck.press("escape")
        assert "No runs in team acme yet" in deck.text
        assert client.runs.triggered == []


async def test_no_types_yet(open_deck: OpenDeck, client: FakeClient) -> None:
    """Without any registered type the view says how one comes."""
    client.types.all = []
    async with open_deck() as deck:
        await deck.press("t")
        assert "No job types yet: start a worker with: jobdeck runner" in deck.text
