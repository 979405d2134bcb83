"""`--attach` and `runs logs -f`: stay with a run, see its progress and log, and answer Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from typing import TYPE_CHECKING
from uuid import UUID

from jobdeck.cli.human import run_line, time_text
from jobdeck.cli.output import emit_json, emit_json_line, say
from jobdeck.errors import NotCancellable
from jobdeck.states import Status
from jobdeck.text import clean

if TYPE_CHECKING:
    from jobdeck.client import Client
    from jobdeck.model import LogEntry, Run

NOT_COMPLETED = 10
DETACHED = 130
_PAGE = 1_000
# Seconds between two plain progress lines where nobody looks at a terminal.
_LINE_EVERY = 1.0


async def attach_to(client: Client, run: Run, *, as_json: bool) -> int:
    """Follow the run to its end like a foreground process; the exit code says how it ended."""
    say(f"attached to {run.shown_id}")
    follower = _Follower(client, run.id)
    interrupt = _Interrupt()
    with interrupt:
        while (run := await follower.step()).finished_at is None:
            if interrupt.asked and not await _answer(client, run, interrupt):
                follower.end_line()
                say(f"detached; it goes on. Watch it with: jobdeck runs show {run.shown_id}")
                return DETACHED
            await interrupt.wait_or(client.changed(1.0))
    await follower.drain()
    follower.end_line()
    _print_end(run, as_json)
    return 0 if run.status is Status.COMPLETED else NOT_COMPLETED


def _print_end(run: Run, as_json: bool) -> None:
    from jobdeck.cli.json_form import run_json

    if as_json:
        emit_json(run_json(run))
    elif run.status is Status.COMPLETED and run.result is not None:
        emit_json(run.result)
    if run.status is not Status.COMPLETED:
        say(f"{run.status}: {run.error}" if run.error else str(run.status))


class _Follower:
    """Writes what is new: log lines as they are, progress as one line that is rewritten on a terminal."""

    def __init__(self, client: Client, run_id: UUID) -> None:
        self._client = client
        self._run_id = run_id
        self._seen = 0
        self._terminal = sys.stderr.isatty()
        self._shown = ""
        self._shown_at = 0.0

    async def step(self) -> Run:
        """Show what has come since the last step."""
        run = await self._client.runs.show(self._run_id)
        await self.drain()
        self._progress(run)
        return run

    async def drain(self) -> None:
        """Show the log lines there are."""
        while entries := await self._client.runs.logs(self._run_id, after=self._seen, limit=_PAGE):
            for entry in entries:
                self._clear()
                say(log_line(entry))
            self._seen = entries[-1].id

    def _progress(self, run: Run) -> None:
        line = clean(run_line(run))
        now = time.monotonic()
        if line == self._shown or (not self._terminal and now - self._shown_at < _LINE_EVERY and self._shown):
            return
        self._clear()
        print(line, end="" if self._terminal else "\n", file=sys.stderr, flush=True)
        self._shown, self._shown_at = line, now

    def _clear(self) -> None:
        if self._terminal and self._shown:
            print("\r\x1b[2K", end="", file=sys.stderr)
            self._shown = ""

    def end_line(self) -> None:
        """Leave the cursor on a line of its own."""
        if self._terminal and self._shown:
            print(file=sys.stderr, flush=True)


class _Interrupt:
    """Ctrl-C as a question instead of an end."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.times = 0

    def __enter__(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._hear)

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)

    def _hear(self) -> None:
        self.times += 1
        self._event.set()

    @property
    def asked(self) -> bool:
        """Whether an interrupt waits for an answer; asking takes it."""
        waiting = self._event.is_set()
        self._event.clear()
        return waiting

    async def wait_or(self, other: object) -> None:
        """Wait for `other`, or for an interrupt."""
        waiting = asyncio.ensure_future(other)  # type: ignore[call-overload]
        interrupt = asyncio.ensure_future(self._event.wait())
        await asyncio.wait({waiting, interrupt}, return_when=asyncio.FIRST_COMPLETED)
        for task in (waiting, interrupt):
            task.cancel()
        await asyncio.gather(waiting, interrupt, return_exceptions=True)


async def _answer(client: Client, run: Run, interrupt: _Interrupt) -> bool:
    """Whether to stay: after a cancel yes, after a detach no."""
    if interrupt.times > 1:
        return False
    if sys.stdin.isatty():
        choice = await asyncio.to_thread(_ask)
        if choice.startswith("d"):
            return False
        if not choice.startswith("c"):
            interrupt.times = 0
            return True
    try:
        await client.runs.cancel(run.id, reason="interrupted in the terminal")
    except NotCancellable:
        return True
    say("cancel requested; a second Ctrl-C detaches")
    return True


def _ask() -> str:
    print("\ndetach or cancel? [d/c] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower()


async def follow_log(client: Client, run_id: UUID, *, as_json: bool) -> None:
    """Print log entries as they come, until the run has ended."""
    seen = 0
    while True:
        run = await client.runs.show(run_id)
        while entries := await client.runs.logs(run_id, after=seen, limit=_PAGE):
            print_entries(entries, as_json=as_json)
            seen = entries[-1].id
        if run.finished_at is not None:
            return
        await client.changed(1.0)


def print_entries(entries: list[LogEntry], *, as_json: bool) -> None:
    """Log entries as data: JSON objects, one a line, or text."""
    from jobdeck.cli.json_form import entry_json
    from jobdeck.cli.output import emit_block

    for entry in entries:
        if as_json:
            emit_json_line(entry_json(entry))
        else:
            emit_block(log_line(entry))


def log_line(entry: LogEntry) -> str:
    """One entry as text: time, level, message, fields."""
    fields = " ".join(f"{key}={value}" for key, value in entry.fields.items())
    parts = (time_text(entry.at), f"{entry.level:<5}", clean(entry.message, lines=True), clean(fields))
    return " ".join(part for part in parts if part)
