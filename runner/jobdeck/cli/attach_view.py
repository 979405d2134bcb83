"""What an attached run looks like on stderr: one live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import Protocol, TextIO

from jobdeck.cli.human import run_line
from jobdeck.cli.log_lines import entry_text
from jobdeck.cli.table import cut
from jobdeck.model import LogEntry, Run
from jobdeck.text import clean

_ERASE_LINE = "\r\x1b[K"
# Without a terminal the output is likely kept in a file.
_PLAIN_EVERY = 1.0


class AttachView(Protocol):
    """Where an attached run is shown."""

    def progress(self, run: Run) -> None:
        """How far the run is."""

    def log(self, entry: LogEntry) -> None:
        """A new line of its log."""

    def note(self, text: str) -> None:
        """A word of jobdeck's own."""

    def ask(self, question: str) -> None:
        """A question that the next line of input answers."""

    def close(self) -> None:
        """Leave the cursor on a new line."""


class LiveView:
    """A terminal: the progress line is rewritten in place, log lines scroll above it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._line = ""

    def progress(self, run: Run) -> None:
        # One column stays free: some terminals wrap when the last one is written.
        width = shutil.get_terminal_size().columns - 1
        self._line = cut(clean(run_line(run)), width)
        self._write(_ERASE_LINE + self._line)

    def log(self, entry: LogEntry) -> None:
        self._above(entry_text(entry))

    def note(self, text: str) -> None:
        self._above(clean(text))

    def ask(self, question: str) -> None:
        self._write(_ERASE_LINE + question)
        self._line = ""

    def close(self) -> None:
        if self._line:
            self._write("\n")

    def _above(self, text: str) -> None:
        self._write(f"{_ERASE_LINE}{text}\n{self._line}")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class PlainView:
    """A file or pipe: a progress line where something changed, at most one a second; the last one always."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._next = float("-inf")
        self._shown = self._line = ""

    def progress(self, run: Run) -> None:
        self._line = clean(run_line(run))
        if self._line != self._shown and self._clock() >= self._next:
            self._next = self._clock() + _PLAIN_EVERY
            self._print_progress()

    def log(self, entry: LogEntry) -> None:
        self._print(entry_text(entry))

    def note(self, text: str) -> None:
        self._print(clean(text))

    def ask(self, question: str) -> None:
        self._print(clean(question))

    def close(self) -> None:
        if self._line != self._shown:
            self._print_progress()

    def _print_progress(self) -> None:
        self._shown = self._line
        self._print(self._line)

    def _print(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()
