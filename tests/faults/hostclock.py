"""The wall clock of a host, as its processes see it; a case moves it for all processes that share it at once.

Monotonic time is left alone, as it is when somebody sets a real clock.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path
from typing import Final

CLOCK_VARIABLE = "JOBDECK_TEST_CLOCK"
"""Names the file with the offset to the processes of a host."""
_FORMAT: Final = "d"


class HostClock:
    """How far the clock of a host is off, in seconds."""

    def __init__(self, path: Path, offset: float = 0.0) -> None:
        self.path = path
        path.write_bytes(struct.pack(_FORMAT, offset))

    def jump(self, seconds: float) -> None:
        """Set the clock forward, or back; every process of the host sees it at its next look."""
        with self.path.open("r+b") as file:
            (offset,) = struct.unpack(_FORMAT, file.read())
            file.seek(0)
            file.write(struct.pack(_FORMAT, offset + seconds))


def install() -> None:
    """Make this process one of the host that the environment names."""
    if name := os.environ.get(CLOCK_VARIABLE):
        with Path(name).open("rb") as file:
            shared = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        real, real_ns = time.time, time.time_ns

        def offset() -> float:
            found: float = struct.unpack(_FORMAT, shared)[0]
            return found

        time.time = lambda: real() + offset()
        time.time_ns = lambda: real_ns() + int(offset() * 1_000_000_000)
