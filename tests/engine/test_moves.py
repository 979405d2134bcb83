"""Moves of runs between database and slots overlap: no slot is filled twice for it, and nothing is left on the way."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import func, select

from jobdeck import Context, handler
from jobdeck.engine.pump import Pump
from jobdeck.engine.worker import WorkerEnd
from jobdeck.states import Status
from jobdeck.store.schema import leases
from jobdeck.testing import FakeClock
from tests.engine.bench import Bench, started
from tests.engine.faults import FaultyDatabase
from tests.engine.gate import PATIENCE, Gate


async def test_overlapping_claims_fill_no_slot_twice(bench: Bench) -> None:
    """120 quick runs on 3 slots, claimed while others are being stored: never more than 3 at once, each once."""
    running, most, seen = 0, 0, []

    @handler("quick")
    async def quick(ctx: Context) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        seen.append(ctx.run_id)
        await asyncio.sleep(0)
        running -= 1

    bench.offer(quick)
    ids = await bench.client.runs.trigger_many("quick", [{} for _ in range(120)])
    async with bench.working(quick, concurrency=3):
        for run_id in ids:
            await bench.ended(run_id)
    assert most <= 3
    assert sorted(seen) == sorted(ids)
    assert await bench.statuses() == {"completed": 120}


async def test_a_stop_waits_for_a_claim_under_way(bench: Bench) -> None:
    """Runs that a claim brings after the stop are given back at once, their attempts not burned, nothing held."""
    ran = []

    @handler("work")
    async def work(ctx: Context) -> None:
        ran.append(ctx.attempt)
        await ctx.sleep("1h")

    answer = Gate()
    faulty = FaultyDatabase(bench.database)
    faulty.hanging["claim"] = answer
    run_id = await bench.trigger(work)
    worker = bench.worker(work, parts={"database": faulty}, shutdown_grace=0)
    task = asyncio.create_task(worker.run())
    await started(worker, task)
    while not faulty.calls["claim"]:
        await asyncio.sleep(0)
    worker.stop()
    answer.open()
    assert await task is WorkerEnd.STOPPED
    run = await bench.run(run_id)
    assert (run.status, run.failures, run.crash_count) == (Status.PENDING, 0, 0)
    held = select(func.count()).select_from(leases)
    assert await bench.read(lambda conn: conn.execute(held).scalar_one()) == 0


async def test_runs_of_an_answer_that_is_older_than_their_leases_are_not_begun(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Others may hold them by then."""
    ran = []

    @handler("work")
    async def work(ctx: Context) -> None:
        ran.append(ctx.attempt)

    answer = Gate()
    clock = FakeClock()
    faulty = FaultyDatabase(bench.database)
    faulty.hanging["claim"] = answer
    run_id = await bench.trigger(work)
    async with bench.working(work, parts={"database": faulty, "clock": clock}, lease=30.0):
        while not faulty.calls["claim"]:
            await asyncio.sleep(0)
        clock.advance(31.0)
        answer.open()
        async with asyncio.timeout(PATIENCE):
            while "left to others" not in caplog.text:
                await asyncio.sleep(0)
        assert (await bench.run(run_id)).status is Status.RUNNING
    assert ran == []


async def test_a_write_that_cannot_be_taken_in_ends_the_worker(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not know any more what it holds, and must not hang in silence."""

    @handler("work")
    async def work(ctx: Context) -> None: ...

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug in the pump")

    monkeypatch.setattr(Pump, "_start", broken)
    await bench.trigger(work)
    with pytest.raises(ZeroDivisionError, match="a bug in the pump"):
        await bench.worker(work).run()


async def test_a_claim_that_fails_for_no_database_ends_the_worker(bench: Bench) -> None:
    """A bug in claiming is no outage to wait out: the worker ends with it and says it."""

    @handler("work")
    async def work(ctx: Context) -> None: ...

    faulty = FaultyDatabase(bench.database)
    faulty.breaking["claim"] = ZeroDivisionError("a bug in a verb")
    await bench.trigger(work)
    worker = bench.worker(work, parts={"database": faulty})
    with pytest.raises(ZeroDivisionError, match="a bug in a verb"):
        await worker.run()
