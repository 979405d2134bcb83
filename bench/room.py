"""The room a question is answered in: a folder on the disk, a PostgreSQL, the peers, and the rounds."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from bench.machine import Calibration, calibrate, is_in_memory
from bench.peers.environment import peers_python
from tests.postgres import PostgresServer, running_server

T = TypeVar("T")
_LEAST_SECONDS = 0.1


class FolderInMemory(Exception):
    """What is written to the folder never reaches a disk."""


class Room:
    """Made by `open_room`."""

    def __init__(self, folder: Path, runs: int, scale: float, peers: bool, stack: ExitStack) -> None:
        self.folder = folder
        self.runs = runs
        self.scale = scale
        self.with_peers = peers
        self.calibrations: list[Calibration] = []
        self._stack = stack
        self._server: PostgresServer | None = None
        self._python: Path | None = None
        self._folders = 0
        self._kept: dict[str, Any] = {}

    def count(self, full: int, least: int = 20) -> int:
        """How many to take where `full` are wanted at scale 1."""
        return max(least, round(full * self.scale))

    def seconds(self, full: float) -> float:
        """How long to measure what is measured for a time, where `full` is wanted at scale 1."""
        return max(_LEAST_SECONDS, full * self.scale)

    def say(self, text: str) -> None:
        """One line of progress."""
        print(text, flush=True)

    @property
    def server(self) -> PostgresServer:
        """One PostgreSQL for jobdeck, the peers and the bare driver; fsync on, settings as they come."""
        if self._server is None:
            self.say("starting PostgreSQL")
            self._server = self._stack.enter_context(running_server(self.folder.parent))
        return self._server

    @property
    def has_server(self) -> bool:
        """Whether PostgreSQL has been needed."""
        return self._server is not None

    @property
    def peers(self) -> Path:
        """The Python of the peers' environment."""
        if self._python is None:
            self._python = peers_python(self.say)
        return self._python

    def keep(self, name: str, make: Callable[[], AbstractContextManager[T]]) -> T:
        """Something that takes long to make, made once and kept for all questions until the end."""
        if name not in self._kept:
            self._kept[name] = self._stack.enter_context(make())
        kept: T = self._kept[name]
        return kept

    def new_folder(self) -> Path:
        """A folder that nobody else uses, gone at the end."""
        self._folders += 1
        folder = self.folder / str(self._folders)
        folder.mkdir(mode=0o700)
        return folder

    def rounds(self, what: str, contenders: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
        """Measure everybody once per round, one after the other; every second round the other way round.

        What slows the machine down for a while then meets all of them, and a ratio is of two neighbours.
        """
        found: dict[str, list[T]] = {name: [] for name in contenders}
        for number in range(self.runs):
            order = list(contenders.items())
            for name, measure in order if number % 2 == 0 else reversed(order):
                self.say(f"{what}: round {number + 1} of {self.runs}: {name}")
                if self.scale >= 1:
                    # What others have left to be written is not to be waited for in a measurement.
                    os.sync()
                self.calibrations.append(calibrate(self.folder))
                found[name].append(measure())
        self.calibrations.append(calibrate(self.folder))
        return found


@contextmanager
def open_room(parent: Path, *, runs: int, scale: float, peers: bool = True) -> Iterator[Room]:
    """A room whose files lie below `parent`; all of it is gone at the end.

    Raises FolderInMemory where nothing written to `parent` reaches a disk.
    """
    if is_in_memory(parent):
        raise FolderInMemory(f"{parent} lies in memory; name a folder on a disk with --folder")
    with (
        tempfile.TemporaryDirectory(prefix="jobdeck-bench-", dir=parent) as name,
        ExitStack() as stack,
    ):
        yield Room(Path(name), runs, scale, peers, stack)
