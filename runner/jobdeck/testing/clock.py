"""A clock that moves when it is told to."""

from __future__ import annotations

import asyncio
import heapq


class FakeClock:
    """Wall and monotonic time that stand still until `advance`; `jump_wall` moves the wall alone."""

    def __init__(self, wall_us: int = 1_767_225_600_000_000, monotonic: float = 1_000.0) -> None:
        self._wall_us = wall_us
        self._monotonic = monotonic
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def wall_us(self) -> int:
        return self._wall_us

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has been advanced that far."""
        if seconds <= 0:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self._monotonic + seconds, self._count, future))
        await future

    def advance(self, seconds: float) -> None:
        """Move both parts and wake whoever has slept long enough."""
        self._monotonic += seconds
        self._wall_us += int(seconds * 1_000_000)
        while self._sleepers and self._sleepers[0][0] <= self._monotonic:
            future = heapq.heappop(self._sleepers)[2]
            if not future.done():
                future.set_result(None)

    @property
    def sleepers(self) -> int:
        """How many wait for the clock to move."""
        return sum(not future.done() for _, _, future in self._sleepers)

    def jump_wall(self, seconds: float) -> None:
        """What a wrong NTP server does."""
        self._wall_us += int(seconds * 1_000_000)
