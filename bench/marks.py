"""What every handler does first, jobdeck's and the peers' alike: one short record, appended to a file.

It costs about 2 us and works from any thread or process, so that everybody pays the same small price. Only what
the standard library has is imported here: the peers run in an environment without jobdeck.
"""

from __future__ import annotations

import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "BENCH_MARKS"
_RECORD = struct.Struct("<qqq")
_POLL = 0.002
_open: dict[str, int] = {}


@dataclass(frozen=True, slots=True)
class Mark:
    """One start of a handler; times are of the monotonic clock, which all processes of a machine share."""

    started_ns: int
    sent_ns: int
    process: int

    @property
    def wait_ms(self) -> float:
        """From before the call that made the run to the first line of its handler."""
        return (self.started_ns - self.sent_ns) / 1e6


def mark(sent_ns: int) -> None:
    """Record that a handler has started; `sent_ns` is what the run carries."""
    path = os.environ[VARIABLE]
    if path not in _open:
        _open[path] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(_open[path], _RECORD.pack(time.monotonic_ns(), sent_ns, os.getpid()))


class Marks:
    """The records of one measurement, seen from outside."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(b"")

    def count(self) -> int:
        """How many handlers have started."""
        return self.path.stat().st_size // _RECORD.size

    def read(self) -> list[Mark]:
        """All of them, in the order of their starts."""
        data = self.path.read_bytes()
        whole = data[: len(data) // _RECORD.size * _RECORD.size]
        return sorted((Mark(*fields) for fields in _RECORD.iter_unpack(whole)), key=lambda m: m.started_ns)

    def wait(self, count: int, seconds: float) -> bool:
        """Wait until so many have started; False where they have not within `seconds`."""
        deadline = time.monotonic() + seconds
        while self.count() < count:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL)
        return True
