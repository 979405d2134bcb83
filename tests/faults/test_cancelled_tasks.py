"""Tasks of a client's program that are cancelled at any moment of a transaction."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress
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
    """A cancelled enqueue has happened whole or not at all, no connection is lost, and the next one works."""
    count = case.size.of(SHORT, WHOLE)
    draw = random.Random(SEED)
    cancelled: set[str] = set()
    async with case.client() as client:

        async def ask(key: str) -> None:
            try:
                case.ledger.enqueued({key: await client.runs.enqueue("work", {"key": key})})
            except asyncio.CancelledError:
                cancelled.add(key)
                raise

        loop = asyncio.get_running_loop()
        for first in range(0, count, AT_ONCE):
            keys = [f"R25-{first + number}" for number in range(AT_ONCE)]
            case.ledger.asked(*keys)
            tasks = [asyncio.create_task(ask(key)) for key in keys]
            for task in tasks:
                if draw.random() < 0.7:
                    loop.call_later(draw.uniform(0, WITHIN), task.cancel)
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task
        stored = {key_of(run) for run in case.history().runs}
        case.workers.start(settings={"runner": {"concurrency": 20}})
        await case.settled()
        # Nothing that was begun comes to light later.
        late = {key_of(run) for run in case.history().runs} - stored
    more = [Breach("I1", str(key), "was stored after its task had ended") for key in late]
    more += [Breach("I11", "-", "a connection was thrown away") for _ in thrown_away]
    known = len(cancelled & {str(key) for key in stored})
    case.judge(
        more=more,
        faults=len(cancelled),
        note=f"{known} of {len(cancelled)} cancelled ones were stored, whole",
    )
