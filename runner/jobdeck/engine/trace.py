"""What an attempt spends its time on, by the worker's monotonic clock alone; microseconds.

Clocks of two machines are never subtracted. How long a run waited to be claimed, and the time of the whole attempt, are
differences of the database's own times; the rest the worker has measured itself.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from typing import Any, Final

from jobdeck.spans import RESERVED, packed

PHASES: Final = 16
"""Most names that a handler may add."""
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
_SECONDS_MAX: Final = 366 * 86_400


class Stopwatch:
    """Of one attempt. The marks are made on the handlers' loop, and read by the engine when the attempt has ended."""

    __slots__ = ("_phases", "began", "ended", "received")

    def __init__(self) -> None:
        self.received = time.monotonic_ns()
        self.began = 0
        self.ended = 0
        self._phases: dict[str, float] | None = None

    def begin(self) -> None:
        """The params are read; the handler begins."""
        self.began = time.monotonic_ns()

    def end(self) -> None:
        """The handler is done."""
        self.ended = time.monotonic_ns()

    def add(self, seconds: Mapping[str, Any]) -> None:
        """Add to phases that the handler names; what is no phase is left out."""
        phases = self._phases = {} if self._phases is None else self._phases
        for name, value in seconds.items():
            if name in RESERVED or not _NAME.fullmatch(name) or not _is_span(value):
                continue
            if name in phases or len(phases) < PHASES:
                phases[name] = min(phases.get(name, 0.0) + value, _SECONDS_MAX)

    def text(self, queue_wait: int, claim: int) -> str:
        """As it is kept (`jobdeck.spans`), as the outcome goes to the database now."""
        now = time.monotonic_ns()
        ended = self.ended or now
        # A handler that never began, as its params are not valid, has taken no time.
        began = self.began or ended
        # Copied, because a handler that was given up, or what it has left behind, may add to them meanwhile.
        named = {} if self._phases is None else self._phases.copy()
        phases = {name: int(value * 1_000_000) for name, value in named.items()}
        return packed(
            queue_wait,
            claim,
            (began - self.received) // 1000,
            (ended - began) // 1000,
            (now - ended) // 1000,
            phases,
        )


def _is_span(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
