"""The standard output and error of a child, as one sequence of lines, read as fast as they are taken."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Final, Literal, NamedTuple

from jobdeck.process.lines import LineSplitter

Stream = Literal["stdout", "stderr"]

# One read is one turn of the loop: small enough that a flood leaves the other tasks their turns.
_READ_BYTES: Final = 16 * 1024
# Lines waiting to be taken; beyond it nothing is read, so that the child waits at its full pipe.
_WAITING_LINES: Final = 1_024


class OutputLine(NamedTuple):
    """One line a child wrote, without its line break."""

    stream: Stream
    text: str


class Output:
    """Reads the pipes of a child on the running loop. Lines keep their order within a stream."""

    def __init__(self, pipes: Mapping[int, Stream]) -> None:
        self._loop = asyncio.get_running_loop()
        self._open = dict(pipes)
        self._splitters = {fd: LineSplitter() for fd in pipes}
        self._waiting: deque[OutputLine] = deque()
        self._arrived = asyncio.Event()
        self._paused = False
        self._discarding = False
        self._ending = False
        self.claimed = False
        """Whether somebody has asked for the lines."""
        for fd in self._open:
            os.set_blocking(fd, False)
        self._listen()

    def lines(self) -> AsyncIterator[OutputLine]:
        """Every line until both streams have ended; to stop early discards the rest."""
        self.claimed = True
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[OutputLine]:
        try:
            while True:
                while self._waiting:
                    yield self._waiting.popleft()
                self._go_on()
                if not self._open:
                    return
                self._arrived.clear()
                await self._arrived.wait()
        finally:
            self.discard()

    def discard(self) -> None:
        """From now on throw away what comes, so that the child never waits at a full pipe."""
        self._discarding = True
        self._waiting.clear()
        self._go_on()

    def finish(self) -> None:
        """The child and all below it are gone: take what is in the pipes, and wait for no end of theirs.

        A process that is none of the child's may have been handed the pipe and keep it open for ever.
        """
        self._ending = True
        if not self._paused:
            self._drain()

    def close(self) -> None:
        """Stop reading."""
        for fd in list(self._open):
            self._end(fd)

    def _listen(self) -> None:
        for fd in self._open:
            self._loop.add_reader(fd, self._read, fd)

    def _drain(self) -> None:
        for fd in self._open:
            self._loop.remove_reader(fd)
            self._loop.call_soon(self._read, fd)

    def _go_on(self) -> None:
        if not self._paused:
            return
        self._paused = False
        if self._ending:
            self._drain()
        else:
            self._listen()

    def _read(self, fd: int) -> None:
        if fd not in self._open or self._paused:
            return
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            if self._ending:
                self._end(fd)
            return
        except OSError:
            data = b""
        if not data:
            self._end(fd)
            return
        self._take(fd, self._splitters[fd].feed(data))
        if len(self._waiting) > _WAITING_LINES:
            self._pause()
        elif self._ending:
            self._loop.call_soon(self._read, fd)

    def _take(self, fd: int, lines: list[str]) -> None:
        if not self._discarding:
            stream = self._open[fd]
            self._waiting.extend(OutputLine(stream, line) for line in lines)
        self._arrived.set()

    def _pause(self) -> None:
        self._paused = True
        for fd in self._open:
            self._loop.remove_reader(fd)

    def _end(self, fd: int) -> None:
        self._loop.remove_reader(fd)
        self._take(fd, self._splitters[fd].finish())
        del self._open[fd]
        os.close(fd)
