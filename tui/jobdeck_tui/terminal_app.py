"""What Textual does otherwise than a console needs it: keys in order, inert text, crashes that tell no secrets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any

from textual import events
from textual.app import App
from textual.filter import LineFilter
from textual.widget import Widget

from jobdeck_tui import safety

_log = logging.getLogger(__name__)
_PATIENCE = 0.5
"""Longest wait, in seconds, for a text field to take in the keys before this one."""


class TerminalApp(App[int]):
    """An application that survives hostile text and a slow terminal. `failure` is what it crashed with, if it did."""

    ENABLE_COMMAND_PALETTE = False

    def __init__(self) -> None:
        super().__init__()
        self.animation_level = "none"
        self.failure: BaseException | None = None
        self._controls = safety.ControlFilter()
        self._background: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run in the background until it ends, or the application does."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def on_unmount(self) -> None:
        for task in self._background:
            task.cancel()

    def get_line_filters(self) -> Sequence[LineFilter]:
        return [*super().get_line_filters(), self._controls]

    def _fatal_error(self) -> None:
        """Instead of Textual's report, which prints the values of variables to the terminal."""
        self.failure = self._exception
        if self.failure is not None:
            _log.critical("the console crashed\n%s", safety.crash_report(self.failure))
        self._close_messages_no_wait()

    async def on_event(self, event: events.Event) -> None:
        """Act on a bound key before the next key is looked at.

        Textual sends every key to the focused widget and back before its binding acts. Keys that come in one go,
        as over a slow line, would all go to the widget that has the focus now: of `/queue` the q would quit.
        """
        if isinstance(event, events.Key) and not event.is_forwarded and await self._acted_on(event):
            return
        await super().on_event(event)

    async def _acted_on(self, event: events.Key) -> bool:
        if not self.app_focus:
            # Textual gives the keys back to their holder first.
            return False
        holder = self.focused
        if holder is not None:
            if holder.check_consume_key(event.key, event.character):
                return False
            await _taken_in(holder)
        return await self._check_bindings(event.key, priority=True) or await self._check_bindings(event.key)


async def _taken_in(widget: Widget) -> None:
    """Until a widget has handled the keys that were sent to it."""
    done = asyncio.Event()
    if not widget.call_later(done.set):
        return
    try:
        await asyncio.wait_for(done.wait(), _PATIENCE)
    except TimeoutError:
        return
