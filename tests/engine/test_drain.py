"""A worker that ends when nothing is left to do."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from jobdeck import Context, handler
from jobdeck.engine.worker import WorkerEnd
from jobdeck.states import Status
from tests.engine.bench import Bench
from tests.engine.gate import Gate


async def test_an_empty_drain_ends_at_once(bench: Bench) -> None:
    """Nothing due, nothing running: drained."""

    @handler("task")
    async def task(ctx: Context) -> None: ...

    assert await bench.worker(task, drain=True).run() is WorkerEnd.DRAINED


async def test_a_drain_does_what_is_due_and_no_more(bench: Bench) -> None:
    """Due runs and their immediate children complete; runs due later, of other types or queues do not hold it."""

    @handler("task")
    async def task(ctx: Context) -> None: ...

    @handler("foreign")
    async def foreign(ctx: Context) -> None: ...

    due = [await bench.trigger(task, queue="mail") for _ in range(7)]
    later = await bench.trigger(task, queue="mail", delay=timedelta(hours=1))
    elsewhere = await bench.trigger(task, queue="reports")
    unknown = await bench.trigger(foreign, queue="mail")
    worker = bench.worker(task, drain=True, concurrency=2, queues=("mail",))
    assert await worker.run() is WorkerEnd.DRAINED
    assert {(await bench.run(run_id)).status for run_id in due} == {Status.COMPLETED}
    assert [(await bench.run(each)).label for each in (later, elsewhere, unknown)] == [
        "scheduled",
        "held",
        "held",
    ]


async def test_a_drain_waits_for_its_own_and_others_runs(bench: Bench) -> None:
    """As long as a run of its queues runs anywhere it stays, because that run may come back."""
    began, go_on = Gate(), Gate()

    @handler("task")
    async def task(ctx: Context) -> None:
        began.open()
        await go_on.passed()

    run_id = await bench.trigger(task)
    async with bench.working(task) as first:
        await began.passed()
        second = bench.worker(task, drain=True, poll=0.05)
        draining = asyncio.create_task(second.run())
        await second.started.wait()
        assert (await bench.run(run_id)).worker_id == first.id
        # Long enough for several looks at what is left.
        assert not (await asyncio.wait({draining}, timeout=0.3))[0]
        go_on.open()
        assert await draining is WorkerEnd.DRAINED
    assert (await bench.run(run_id)).status is Status.COMPLETED


async def test_a_drain_takes_what_comes_back(bench: Bench) -> None:
    """A run that another worker gives back while this one drains is done by this one."""
    began = Gate()

    @handler("task")
    async def task(ctx: Context) -> int:
        if ctx.attempt == 1:
            began.open()
            await ctx.sleep("1h")
        return ctx.attempt

    run_id = await bench.trigger(task)
    async with bench.working(task, shutdown_grace=0):
        await began.passed()
        draining = asyncio.create_task(bench.worker(task, drain=True, poll=0.05).run())
    assert await draining is WorkerEnd.DRAINED
    assert (await bench.run(run_id)).result == 2


async def test_a_cancel_ends_a_drain(bench: Bench) -> None:
    """A draining worker obeys cancels: the run it waits for ends as cancelled, and so does the wait."""
    began = Gate()

    @handler("task")
    async def task(ctx: Context) -> None:
        began.open()
        await ctx.sleep("1h")

    run_id = await bench.trigger(task)
    draining = asyncio.create_task(bench.worker(task, drain=True).run())
    await began.passed()
    await bench.client.runs.cancel(run_id)
    assert await draining is WorkerEnd.DRAINED
    assert (await bench.run(run_id)).status is Status.CANCELLED
