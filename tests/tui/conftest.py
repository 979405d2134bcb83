"""What the console's tests share: a fixed environment, a fake client, a console driven by keys."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from jobdeck_tui.app import Console
from jobdeck_tui.feed import Pace
from tests.tui.deck import Deck, Seconds
from tests.tui.fake_client import NOW, FakeClient

OpenDeck = Callable[..., AbstractAsyncContextManager[Deck]]


@pytest.fixture(autouse=True)
def fixed_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No colour settings, no tmux and no SSH of the machine that runs the tests; times in UTC."""
    for name in ("NO_COLOR", "TEXTUAL_THEME", "SSH_TTY", "TMUX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
async def client() -> FakeClient:
    """An empty team with one worker and one job type."""
    return FakeClient()


@pytest.fixture
def open_deck(client: FakeClient) -> OpenDeck:
    """Opens a console on the client; `async with open_deck() as deck`."""

    @asynccontextmanager
    async def opened(size: tuple[int, int] = (80, 24), **options: Any) -> AsyncIterator[Deck]:
        seconds = Seconds()
        pace = Pace(poll=60, gap=0)
        console = Console(client, pace=pace, now=lambda: NOW, monotonic=seconds, **options)
        async with console.run_test(size=size) as pilot:
            deck = Deck(console, pilot, client, seconds)
            await deck.settle()
            yield deck

    return opened
