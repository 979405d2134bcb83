"""Time as a value that is passed in: wall and monotonic parts, so that a test can move each on its own."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What the engine knows of time. Wall time is for people and rows, monotonic time is for waiting."""

    def wall_us(self) -> int:
        """Microseconds since 1970 UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    async def sleep(self, seconds: float) -> None:
        """Wait on the monotonic part."""


class SystemClock:
    """The machine's clock."""

    def wall_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def to_us(moment: datetime) -> int:
    """Microseconds since 1970 UTC. Raises ValueError for a datetime without a zone."""
    if moment.tzinfo is None:
        raise ValueError(f"a datetime without a time zone is not a point in time: {moment!r}")
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def from_us(microseconds: int) -> datetime:
    """The point in time, in UTC."""
    return _EPOCH + timedelta(microseconds=microseconds)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
