"""A console under test: press keys, let everything settle, read the screen."""

from __future__ import annotations

from dataclasses import dataclass

from textual.pilot import Pilot
from textual.widget import Widget

from jobdeck_tui.app import Console
from jobdeck_tui.views.run import RunView
from jobdeck_tui.views.runs import RunsView
from jobdeck_tui.views.trigger import TriggerView
from tests.tui.fake_client import FakeClient


class Seconds:
    """A monotonic clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Deck:
    """The console, its pilot and what lies behind it."""

    console: Console
    pilot: Pilot[int]
    client: FakeClient
    seconds: Seconds

    async def settle(self) -> None:
        """Until everything asked for is on the screen, and a look at the database too."""
        for _ in range(2):
            await self.console.feed.settled()
            await self.pilot.pause()
        await self.console.feed.look()
        await self.pilot.pause()

    async def press(self, *keys: str) -> None:
        """Press keys and settle."""
        await self.pilot.press(*keys)
        await self.settle()

    async def type(self, text: str) -> None:
        """Type text and settle."""
        await self.press(*("space" if char == " " else char for char in text))

    async def after_guard(self) -> None:
        """Let the time pass in which a question does not listen."""
        self.seconds.now += 1.0

    @property
    def screen(self) -> list[str]:
        """The text on the screen, line by line."""
        return [strip.text.rstrip() for strip in self.console.screen._compositor.render_strips()]

    @property
    def text(self) -> str:
        """The whole screen."""
        return "\n".join(self.screen)

    @property
    def focused(self) -> Widget | None:
        """Who has the keys."""
        return self.console.focused

    @property
    def runs(self) -> RunsView:
        """The list."""
        return self.console.query_one(RunsView)

    @property
    def run(self) -> RunView:
        """The detail."""
        return self.console.query_one(RunView)

    @property
    def trigger(self) -> TriggerView:
        """The form."""
        return self.console.query_one(TriggerView)

    def cursor_line(self) -> str:
        """The line of the list with the cursor."""
        return next((line for line in self.screen if line.startswith(">")), "")
