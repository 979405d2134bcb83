"""Staying with a run as if it were a program in the foreground: live progress, log, Ctrl-C, exit code."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from jobdeck.cli.attach_view import AttachView, LiveView, PlainView
from jobdeck.cli.json_form.runs import run_json
from jobdeck.cli.output import emit_json, say
from jobdeck.errors import NotCancellable
from jobdeck.states import TERMINAL, Status

if TYPE_CHECKING:
    from jobdeck.client import Client
    from jobdeck.model import Run

_NOT_COMPLETED: Final = 10
_DETACHED: Final = 130
# Longest time between looks where no hint comes.
_LOOK: Final = 1.0
_LOG_PAGE: Final = 500


async def attach_in_foreground(client: Client, run: Run, *, as_json: bool) -> int:
    """Stay with `run` until it ends or the user detaches; print its result. Gives the exit code."""
    terminal = sys.stderr.isatty() and sys.stdin.isatty()
    view: AttachView = LiveView(sys.stderr) if terminal else PlainView(sys.stderr)
    with interrupts() as pressed:
        attached = Attached(client, run, view, pressed, can_ask=terminal)
        ended = await attached.follow()
    if ended is None:
        say(f"detached; {run.shown_id} goes on. See: jobdeck runs logs -f {run.shown_id}")
        return _DETACHED
    return _report(ended, as_json)


def _report(run: Run, as_json: bool) -> int:
    completed = run.status is Status.COMPLETED
    if as_json:
        emit_json(run_json(run))
    elif completed:
        emit_json(run.result)
    if not completed:
        kind = f" ({run.failure_kind})" if run.failure_kind else ""
        say(f"{run.shown_id} {run.status}{kind}{': ' + run.error if run.error else ''}")
    return 0 if completed else _NOT_COMPLETED


@contextmanager
def interrupts() -> Iterator[asyncio.Event]:
    """Ctrl-C as an event instead of the end of the program."""
    loop, pressed = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGINT, pressed.set)
    try:
        yield pressed
    finally:
        loop.remove_signal_handler(signal.SIGINT)


class Attached:
    """One attached run. `follow` shows it until it ends or the user leaves."""

    def __init__(
        self, client: Client, run: Run, view: AttachView, pressed: asyncio.Event, *, can_ask: bool
    ) -> None:
        self._client = client
        self._run = run
        self._view = view
        self._pressed = pressed
        self._can_ask = can_ask
        self._cancelled = False
        self._last_entry = 0

    async def follow(self) -> Run | None:
        """The run as it ended; None where the user detached."""
        try:
            while True:
                # The status is read before the log: what a run logged is stored by the time it has ended.
                run = await self._client.runs.show(self._run.id)
                await self._show_log()
                self._view.progress(run)
                if run.status in TERMINAL:
                    return run
                if await self._woken_by_user() and not await self._decide():
                    return None
        finally:
            self._view.close()

    async def _show_log(self) -> None:
        while entries := await self._client.runs.logs(self._run.id, after=self._last_entry, limit=_LOG_PAGE):
            for entry in entries:
                self._view.log(entry)
            self._last_entry = entries[-1].id
            if len(entries) < _LOG_PAGE:
                return

    async def _woken_by_user(self) -> bool:
        """Wait for a change, the next look, or Ctrl-C."""
        change = asyncio.ensure_future(self._client.changed(_LOOK))
        press = asyncio.ensure_future(self._pressed.wait())
        await asyncio.wait({change, press}, return_when=asyncio.FIRST_COMPLETED)
        for waiting in (change, press):
            waiting.cancel()
        await asyncio.gather(change, press, return_exceptions=True)
        return self._pressed.is_set()

    async def _decide(self) -> bool:
        """What Ctrl-C means: False leaves the run, True stays (after asking it to stop)."""
        self._pressed.clear()
        if self._cancelled:
            return False
        if self._can_ask and await self._answer() != "c":
            return False
        self._cancelled = True
        try:
            await self._client.runs.cancel(self._run.id, reason="interrupted at the terminal")
        except NotCancellable:
            return True
        self._view.note("cancelling; it ends when its handler lets go (Ctrl-C again: detach)")
        return True

    async def _answer(self) -> str:
        """`c` or `d`; a second Ctrl-C or the end of input is `d`."""
        loop = asyncio.get_running_loop()
        lines: asyncio.Queue[str] = asyncio.Queue()
        self._view.ask("detach or cancel? [d/c] ")
        loop.add_reader(sys.stdin, lambda: lines.put_nowait(sys.stdin.readline()))
        try:
            while True:
                line = await self._line_or_press(lines)
                if line is None or line == "":
                    return "d"
                if (letter := line.strip().lower()[:1]) in ("c", "d"):
                    return letter
                self._view.ask("d leaves it running, c cancels it [d/c] ")
        finally:
            loop.remove_reader(sys.stdin)

    async def _line_or_press(self, lines: asyncio.Queue[str]) -> str | None:
        line = asyncio.ensure_future(lines.get())
        press = asyncio.ensure_future(self._pressed.wait())
        await asyncio.wait({line, press}, return_when=asyncio.FIRST_COMPLETED)
        pressed = press.done()
        for waiting in (line, press):
            waiting.cancel()
        await asyncio.gather(line, press, return_exceptions=True)
        self._pressed.clear()
        return None if pressed else line.result()
