"""What a courier holds is never forgotten: neither by a drain, nor by a stop, nor while the database is silent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, cast

import pytest

from jobdeck import Context, handler
from jobdeck.clock import SystemClock
from jobdeck.engine.courier import Courier
from jobdeck.store.batch import Commit
from jobdeck.store.database import Database
from jobdeck.store.outbox.letters import anything_due
from jobdeck.store.transaction import I, R, Verb
from tests.engine.bench import Bench
from tests.engine.faults import FaultyDatabase
from tests.engine.gate import PATIENCE, Gate
from tests.engine.post import webhooks
from tests.handlers.api import Api, Reply, serving

AT_ONCE = 8.0


@handler("work", max_attempts=1)
async def work(ctx: Context) -> None: ...


@pytest.fixture
def api() -> Iterator[Api]:
    """Takes notifications at /hook."""
    with serving() as made:
        made.routes["/hook"] = lambda _: Reply()
        yield made


async def ended_with_callback(bench: Bench, api: Api) -> None:
    run_id = await bench.trigger(work, callback_url=api.url("/hook"))
    async with bench.working(work):
        await bench.ended(run_id)


async def due(bench: Bench) -> bool:
    return await bench.read(lambda conn: anything_due(conn, bench.database.now_of(conn), tuple(webhooks())))


async def delivered(bench: Bench) -> bool:
    (found,) = await bench.client.deliveries.list()
    return found.state == "delivered"


class LateAnswers(FaultyDatabase):
    """What a courier takes is its own before it hears of it: the answer waits for `answer`, whoever is cancelled."""

    def __init__(self, inner: Database) -> None:
        super().__init__(inner)
        self.taken = Gate()
        self.answer = asyncio.Event()

    async def write(self, verb: Verb[I, R], item: I) -> R:
        found = await super().write(verb, item)
        if verb.name == "take":
            self.taken.open()
            answered = Commit()
            waiting = asyncio.create_task(self.answer.wait())
            waiting.add_done_callback(lambda _: answered.set_result([]))
            await answered
        return found


async def test_what_is_taken_is_not_done(bench: Bench, api: Api) -> None:
    """Between the commit that takes a notification and its answer, it is neither due nor sent: a drain waits for it."""
    await ended_with_callback(bench, api)
    database = LateAnswers(bench.database)
    courier = Courier(database, webhooks(), SystemClock())
    courier.start()
    await database.taken.passed()
    assert not await courier.nothing_left()
    database.answer.set()
    await bench.eventually(lambda: delivered(bench))
    await bench.eventually(courier.nothing_left)
    await courier.stop(AT_ONCE)


async def test_what_is_taken_while_a_drain_looks_is_not_done(bench: Bench, api: Api) -> None:
    """The drain began to look when nothing was held, and the database answers when nothing is due any more."""
    await ended_with_callback(bench, api)
    database = LateAnswers(bench.database)
    courier = Courier(database, webhooks(), SystemClock())
    looks = database.hanging["read"] = Gate()
    looking = asyncio.create_task(courier.nothing_left())
    while not database.calls["read"]:
        await asyncio.sleep(0)
    del database.hanging["read"]
    courier.start()
    await database.taken.passed()
    looks.open()
    assert not await looking
    database.answer.set()
    await courier.stop(AT_ONCE)


async def test_a_drain_goes_on_while_nobody_can_tell(bench: Bench) -> None:
    """As with runs: an outage ends no worker."""
    database = FaultyDatabase(bench.database)
    courier = Courier(database, webhooks(), SystemClock())
    database.failing = {"read"}
    assert not await courier.nothing_left()
    database.failing = set()
    assert await courier.nothing_left()


async def test_a_stop_gives_back_what_was_taken_meanwhile(bench: Bench, api: Api) -> None:
    """It is there for others at once, not when the lease of a worker that is gone is over."""
    await ended_with_callback(bench, api)
    database = LateAnswers(bench.database)
    courier = Courier(database, webhooks(), SystemClock())
    courier.start()
    await database.taken.passed()
    stopping = asyncio.create_task(courier.stop(AT_ONCE))
    await asyncio.sleep(0)
    database.answer.set()
    await stopping
    assert await due(bench)


async def test_a_stop_does_not_wait_for_a_silent_database(bench: Bench, api: Api) -> None:
    """A write refuses to be cancelled; the stop ends all the same, and what it brings later is given back, not sent."""
    await ended_with_callback(bench, api)
    database = LateAnswers(bench.database)
    courier = Courier(database, webhooks(), SystemClock())
    courier.start()
    await database.taken.passed()
    stopping = asyncio.create_task(courier.stop(0.05))
    ended, _ = await asyncio.wait({stopping}, timeout=PATIENCE)
    database.answer.set()
    assert ended
    await bench.eventually(lambda: due(bench))
    assert not api.asked


class _Still:
    """A database in which nothing is ever due; it answers at once."""

    async def read(self, _query: Any) -> bool:
        return False

    async def write(self, _verb: Any, _item: Any) -> int:
        return 0

    async def write_many(self, _verb: Any, _items: Any) -> list[Any]:
        return []


@pytest.mark.parametrize("turns", range(6))
async def test_a_stop_that_comes_with_a_hint(turns: int) -> None:
    """However many turns of the loop lie between the hint and the stop, nothing goes on after it."""
    before = asyncio.all_tasks()
    courier = Courier(cast("Database", _Still()), webhooks(), SystemClock())
    courier.start()
    for _ in range(20):
        await asyncio.sleep(0)
    courier.look_again()
    for _ in range(turns):
        await asyncio.sleep(0)
    await courier.stop(0.05)
    assert asyncio.all_tasks() == before
