"""When a failed run is tried again: exponential backoff with full jitter. Pure.

Full jitter (a uniform draw between zero and the step) spreads a herd best for the same total load, as Amazon's
architecture blog showed by simulation in 2015; the step itself is base * factor ** (failures - 1), capped.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from jobdeck import limits


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds: first step, growth and cap."""

    base: float = limits.BACKOFF_BASE
    factor: float = limits.BACKOFF_FACTOR
    cap: float = limits.BACKOFF_CAP

    def step(self, failures: int) -> float:
        """The longest wait after the given number of failures (1 or more), in seconds."""
        exponent = min(failures - 1, 64)
        return float(min(self.base * self.factor**exponent, self.cap))

    def delay(self, failures: int, draw: random.Random) -> float:
        """Seconds to wait after the given number of failures: uniform in [0, step]."""
        return draw.uniform(0.0, self.step(failures))
