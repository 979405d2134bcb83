"""When a failed run is tried again. Pure.

Waits that grow are drawn anew between zero and their step: full jitter spreads a herd best for the same total load, as
Amazon's architecture blog showed by simulation in 2015. Waits that somebody has stated one by one are kept as stated.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from jobdeck import limits
from jobdeck.errors import ValidationError

# With the 64 steps of a backoff a float holds no more.
_FACTOR_MAX = 1_000
_EXPONENT_MAX = 64


class Growth(StrEnum):
    """How the step depends on the number of failures so far."""

    EXPONENTIAL = "exponential"
    """base * factor ** (failures - 1)"""
    LINEAR = "linear"
    """base * failures"""
    FIXED = "fixed"
    """base"""
    CUSTOM = "custom"
    """the next one of `delays`, and the last one for ever"""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Times in seconds; no step is longer than `cap`. `jitter` None: full for what grows, none for the rest."""

    base: float = limits.BACKOFF_BASE
    factor: float = limits.BACKOFF_FACTOR
    cap: float = limits.BACKOFF_CAP
    growth: Growth = Growth.EXPONENTIAL
    delays: tuple[float, ...] = ()
    jitter: bool | None = None

    def step(self, failures: int) -> float:
        """The longest wait after the given number of failures (1 or more), in seconds."""
        match self.growth:
            case Growth.EXPONENTIAL:
                step = self.base * self.factor ** min(failures - 1, _EXPONENT_MAX)
            case Growth.LINEAR:
                step = self.base * failures
            case Growth.FIXED:
                step = self.base
            case Growth.CUSTOM:
                step = self.delays[min(failures, len(self.delays)) - 1]
        return float(min(step, self.cap))

    def delay(self, failures: int, draw: random.Random) -> float:
        """Seconds to wait after the given number of failures: the step, or anything up to it."""
        grows = self.growth in (Growth.EXPONENTIAL, Growth.LINEAR)
        spread = grows if self.jitter is None else self.jitter
        step = self.step(failures)
        return draw.uniform(0.0, step) if spread else step

    def facts(self) -> dict[str, Any]:
        """What is stored of it; `from_facts` makes it again."""
        return {
            "growth": str(self.growth),
            "base": self.base,
            "factor": self.factor,
            "cap": self.cap,
            "delays": list(self.delays),
            "jitter": self.jitter,
        }


def from_facts(facts: Mapping[str, Any]) -> Backoff:
    """The backoff of stored facts. Raises ValidationError, for rows are hostile."""
    try:
        return checked(
            Backoff(
                base=float(facts["base"]),
                factor=float(facts["factor"]),
                cap=float(facts["cap"]),
                growth=Growth(facts["growth"]),
                delays=tuple(float(delay) for delay in facts["delays"]),
                jitter=None if facts["jitter"] is None else bool(facts["jitter"]),
            )
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValidationError(f"the backoff of the run cannot be read: {error}", field="backoff") from None


def checked(backoff: Backoff) -> Backoff:
    """The backoff, if it can work. Raises ValidationError."""
    if not (0 <= backoff.base <= limits.DELAY_MAX and 0 <= backoff.cap <= limits.DELAY_MAX):
        raise ValidationError(
            f"base and cap of a backoff lie between 0 and {limits.DELAY_MAX} seconds", field="backoff"
        )
    if not 1 <= backoff.factor <= _FACTOR_MAX:
        raise ValidationError(
            f"the factor of a backoff lies between 1 and {_FACTOR_MAX}, not {backoff.factor}", field="backoff"
        )
    if (backoff.growth is Growth.CUSTOM) != bool(backoff.delays):
        raise ValidationError("a custom backoff has a list of delays, and no other one has", field="backoff")
    if len(backoff.delays) > limits.MAX_ATTEMPTS_MAX:
        raise ValidationError(
            f"a backoff has at most {limits.MAX_ATTEMPTS_MAX} delays, not {len(backoff.delays)}",
            field="backoff",
        )
    if not all(0 <= delay <= limits.DELAY_MAX for delay in backoff.delays):
        raise ValidationError(
            f"the delays of a backoff lie between 0 and {limits.DELAY_MAX} seconds", field="backoff"
        )
    return backoff
