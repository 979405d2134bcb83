"""The services of a worker end when they are told to."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from jobdeck.clock import SystemClock
from jobdeck.engine.heart import Heart
from jobdeck.engine.options import WorkerOptions
from jobdeck.engine.reporter import Reporter
from jobdeck.engine.rounds import Rounds
from jobdeck.engine.upkeep import Upkeep


class _Calm:
    """A heart, rounds and a reporter for whom there is nothing to do."""

    interval = 10.0

    def watch_silence(self) -> None: ...

    def watch_loop(self) -> bool:
        return False

    def __getattr__(self, _name: str) -> Any:
        async def nothing() -> int:
            return 0

        return nothing


@pytest.mark.parametrize("turns", range(6))
async def test_a_stop_that_comes_with_a_hint(turns: int) -> None:
    """However many turns of the loop lie between the hint and the stop, no service goes on after it."""
    before = asyncio.all_tasks()
    calm = cast(Any, _Calm())
    parts = (cast(Heart, calm), cast(Rounds, calm), cast(Reporter, calm))
    upkeep = Upkeep(*parts, WorkerOptions(cancel_notice=60), SystemClock())
    upkeep.start()
    for _ in range(20):
        await asyncio.sleep(0)
    upkeep.look_for_cancels()
    for _ in range(turns):
        await asyncio.sleep(0)
    await upkeep.stop(0.05)
    assert asyncio.all_tasks() == before
