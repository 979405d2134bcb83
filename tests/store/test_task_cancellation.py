"""Tasks cancelled at any moment: no transaction is left half done, no connection is lost, no outcome is unknown."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.pool import Pool

from jobdeck.states import Status
from jobdeck.store.enqueue import enqueue
from jobdeck.store.lists.counts import counts
from jobdeck.store.schema import run_events, runs
from tests.store.deck import Deck

SEED = 20260131


@pytest.fixture
def lost_connections() -> Iterator[list[Any]]:
    """One entry for each connection of any pool that had to be thrown away."""
    seen: list[Any] = []

    def note(*about: Any) -> None:
        seen.append(about)

    for name in ("invalidate", "soft_invalidate"):
        event.listen(Pool, name, note)
    yield seen
    for name in ("invalidate", "soft_invalidate"):
        event.remove(Pool, name, note)


async def test_cancelled_writes(deck: Deck, lost_connections: list[Any]) -> None:
    """1,500 writes cancelled at random moments within 3 ms: what was begun is stored whole, the rest not at all.

    A task that ends knows: cancelled before it began (nothing stored), or after the commit (all stored).
    """
    draw = random.Random(SEED)
    begun: set[Any] = set()
    answered: set[Any] = set()

    async def write() -> None:
        item = deck.new_run(name="x")
        begun.add(item.id)
        answered.add(await deck.database.write(enqueue, item))

    loop = asyncio.get_running_loop()
    for _ in range(15):
        tasks = [asyncio.create_task(write()) for _ in range(100)]
        for task in tasks:
            if draw.random() < 0.7:
                loop.call_later(draw.uniform(0, 0.003), task.cancel)
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
    stored = {row["id"] for row in await deck.rows(runs)}
    events = [row["run_id"] for row in await deck.rows(run_events)]
    assert stored == begun
    assert len(begun) > len(answered) > 0
    assert answered <= stored
    assert sorted(events) == sorted(stored)
    assert lost_connections == []


async def test_cancelled_claims_and_ends(deck: Deck) -> None:
    """Claims and ends cancelled at random leave each run in one state with everything that belongs to it."""
    draw = random.Random(SEED)
    await deck.enqueue_many(120)
    loop = asyncio.get_running_loop()

    async def work() -> None:
        for run in await deck.claim(3):
            await deck.finish(run)

    for _ in range(8):
        tasks = [asyncio.create_task(work()) for _ in range(10)]
        for task in tasks:
            loop.call_later(draw.uniform(0, 0.02), task.cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
    for row in await deck.rows(runs):
        run = await deck.show(row["id"])
        assert run.status in (Status.PENDING, Status.RUNNING, Status.COMPLETED)
        assert (run.worker_id is not None) == (run.status is Status.RUNNING)
        assert len(run.attempts) == (run.status is not Status.PENDING)
        assert row["fence"] == row["attempt"] == len(run.attempts)


async def test_cancelled_reads(deck: Deck, lost_connections: list[Any]) -> None:
    """500 reads cancelled at random leave no connection in use, none thrown away, and the next read works."""
    draw = random.Random(SEED)
    await deck.enqueue_many(50)
    loop = asyncio.get_running_loop()
    for _ in range(5):
        tasks = [asyncio.create_task(deck.database.read(counts, deck.scope)) for _ in range(100)]
        for task in tasks:
            if draw.random() < 0.7:
                loop.call_later(draw.uniform(0, 0.01), task.cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert deck.database.checked_out() == 0
    assert await deck.database.read(counts, deck.scope) == {"pending": 50}
    assert lost_connections == []
