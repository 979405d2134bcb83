"""The room a question is answered in: a folder on the disk, a PostgreSQL, the peers, and the rounds."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from bench.machine import Calibration, calibrate, is_in_memory
from bench.peers.environment import peers_python
from tests.postgres import PostgresServer, running_server

T = TypeVar("T")


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

    def count(self, full: int, least: int = 20) -> int:
        """How many to take where `full` are wanted at scale 1."""
        return max(least, round(full * self.scale))

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
                os.sync()
                self.calibrations.append(calibrate(self.folder))
                found[name].append(measure())
        self.calibrations.append(calibrate(self.folder))
        return found


@contextmanager
def open_room(parent: Path, *, runs: int, scale: float, peers: bool = True) -> Iterator[Room]:
    """A room whose files lie below `parent`; all of it is gone at the end.

    Raises ValueError where nothing written to `parent` reaches a disk.
    """
    if is_in_memory(parent):
        raise ValueError(f"{parent} lies in memory; name a folder on a disk with --folder")
    with (
        tempfile.TemporaryDirectory(prefix="jobdeck-bench-", dir=parent) as name,
        ExitStack() as stack,
    ):
        yield Room(Path(name), runs, scale, peers, stack)
