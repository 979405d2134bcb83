"""Tasks of a client's program that are cancelled at any moment of a transaction."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.pool import Pool

from tests.faults.case import Case
from tests.faults.history import key_of
from tests.faults.invariants import Breach

SEED = 20260402
SHORT, WHOLE = 300, 1_500
AT_ONCE = 50
# A cancel comes within 3 ms: about as long as a transaction takes.
WITHIN = 0.003


@pytest.fixture
def thrown_away() -> Iterator[list[Any]]:
    """One entry for each connection of any pool that was invalidated."""
    seen: list[Any] = []

    def note(*about: Any) -> None:
        seen.append(about)

    for name in ("invalidate", "soft_invalidate"):
        event.listen(Pool, name, note)
    yield seen
    for name in ("invalidate", "soft_invalidate"):
        event.remove(Pool, name, note)


async def test_r25_tasks_cancelled_at_random(case: Case, thrown_away: list[Any]) -> None:
    """What was begun is stored whole, what was cancelled before that is not; no connection is lost.

    So whoever is cancelled knows: with its end, a task leaves nothing open.
    """
    count = case.size.of(SHORT, WHOLE)
    draw = random.Random(SEED)
    begun: set[str] = set()
    cancelled = 0
    async with case.client() as client:

        async def ask(key: str) -> None:
            begun.add(key)
            case.ledger.enqueued({key: await client.runs.enqueue("work", {"key": key})})

        loop = asyncio.get_running_loop()
        for first in range(0, count, AT_ONCE):
            keys = [f"R25-{first + number}" for number in range(AT_ONCE)]
            case.ledger.asked(*keys)
            tasks = [asyncio.create_task(ask(key)) for key in keys]
            for task in tasks:
                if (drawn := draw.random()) < 0.1:
                    task.cancel()
                elif drawn < 0.8:
                    loop.call_later(draw.uniform(0, WITHIN), task.cancel)
            await asyncio.wait(tasks)
            cancelled += sum(task.cancelled() for task in tasks)
        stored = {key_of(run) for run in case.history().runs}
        case.workers.start(settings={"runner": {"concurrency": 20}})
        await case.settled()
        late = {key_of(run) for run in case.history().runs} - stored
    more = [Breach("I1", str(key), "was stored after its task had ended") for key in late]
    more += [Breach("I1", str(key), "has an unknown outcome") for key in begun ^ stored]
    more += [Breach("I11", "-", "a connection was thrown away") for _ in thrown_away]
    case.judge(more=more, faults=cancelled, note=f"{len(stored)} of {count} were begun before their cancel")
    assert cancelled > count / 2
    assert len(begun) < count
