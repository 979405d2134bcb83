"""A real pseudo-terminal with a program in it: type keys, wait for the screen, keep every byte."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyte

ROOT = Path(__file__).parents[2]
PATIENCE = 20.0


class Terminal:
    """80x24 cells, read by pyte; `raw` is all that was written to it."""

    def __init__(
        self, arguments: list[str], environment: dict[str, str], size: tuple[int, int] = (80, 24)
    ) -> None:
        self.raw = bytearray()
        self.screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self.screen)
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
        )
        os.close(slave)

    @property
    def text(self) -> str:
        """The screen."""
        return "\n".join(line.rstrip() for line in self.screen.display)

    def send(self, data: bytes) -> None:
        """Type."""
        os.write(self._master, data)

    def until(self, met: Callable[[], bool], *, again: bytes = b"") -> None:
        """Read until something holds; fails with the screen after `PATIENCE` seconds.

        `again` is typed whenever nothing comes: for keys that a question does not listen to at first.
        """
        deadline = time.monotonic() + PATIENCE
        while not met():
            left = deadline - time.monotonic()
            if self._read(min(left, 0.2) if again else left):
                continue
            if time.monotonic() >= deadline or not again:
                raise AssertionError(f"it did not come to that; the screen was:\n{self.text}")
            self.send(again)

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(seconds, 0))
        if not ready:
            return False
        try:
            data = os.read(self._master, 65_536)
        except OSError:
            return False
        self.raw += data
        # pyte knows neither private parameters nor keyboard modes, and would print what it does not know.
        self._stream.feed(re.sub(rb"\x1b\[[<>=?][0-9;]*\$?[a-z]|\x1b\[\?[0-9;]*\$p", b"", data))
        return bool(data)

    def exit_code(self) -> int:
        """Read to the end; the program's exit code."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < deadline:
            self._read(0.1)
        while self._read(0):
            pass
        return self.process.wait(1)

    def close(self) -> None:
        """End the program if it has not ended."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        os.close(self._master)


@contextmanager
def terminal(*arguments: str, **environment: str) -> Iterator[Terminal]:
    """A terminal with `python ARGUMENTS` in it, in a plain environment."""
    usual = {
        "PATH": os.environ["PATH"],
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
        "LANG": "C.UTF-8",
    }
    opened = Terminal(list(arguments), {**usual, "TZ": "UTC", **environment})
    try:
        yield opened
    finally:
        opened.close()
