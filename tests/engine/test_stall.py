"""Handlers that harm the loop they share: the worker stays alive, says so, and goes on or is replaced."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from datetime import datetime

import pytest

from jobdeck import Context, handler, model
from jobdeck.engine.worker import Worker, WorkerEnd
from jobdeck.states import Status
from jobdeck.store.fleet import list_workers
from jobdeck.testing import FakeClock
from tests.engine.bench import Bench, is_running, outcomes, started
from tests.engine.gate import Gate


def beat_after(moment: datetime | None) -> Callable[[model.Run], bool]:
    """Whether the run's lease was extended after that."""
    assert moment is not None
    return lambda run: run.heartbeat_at is not None and run.heartbeat_at > moment


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop counts as blocked after 0.3 s instead of 2 s."""
    monkeypatch.setattr("jobdeck.engine.heart.STALLED_AFTER", 0.3)
    monkeypatch.setattr("jobdeck.engine.worker.STALLED_AFTER", 0.3)
    monkeypatch.setattr("jobdeck.engine.worker._LET_GO", 0.1)


async def test_a_blocked_loop_is_stalled_not_dead(bench: Bench) -> None:
    """R05: its runs are labelled stalled, beats go on past the lease, and no other worker takes anything over."""
    began, go_on = Gate(), Gate()

    @handler("blocks")
    async def blocks(ctx: Context) -> str:
        began.open()
        # As time.sleep() or a computation would: the loop cannot turn.
        go_on.passed_sync()
        return "first"

    @handler("neighbour")
    async def neighbour(ctx: Context) -> str:
        await asyncio.sleep(0)
        return "late"

    run_id = await bench.trigger(blocks)
    clock = FakeClock()
    async with bench.working(blocks, neighbour, parts={"clock": clock}) as worker:
        await began.passed()
        other_id = await bench.trigger(neighbour)
        async with bench.working(blocks) as other:

            async def stalled() -> bool:
                clock.advance(0.5)
                return (await bench.run(run_id)).label == "stalled"

            await bench.eventually(stalled)
            assert "stalled" in [each.state for each in await _workers(bench)]
            for _ in range(4):
                beaten = (await bench.run(run_id)).heartbeat_at
                bench.skip(10)
                clock.advance(10)
                await bench.until(run_id, beat_after(beaten))
                assert await other.heart.beat()
                assert await other.rounds.recover() == 0
            running = await bench.run(run_id)
            assert (is_running(running), running.worker_id, running.attempt) == (True, worker.id, 1)
            go_on.open()
            done, neighbours = await bench.ended(run_id), await bench.ended(other_id)
        assert (done.result, outcomes(done)) == ("first", ["completed"])
        assert (neighbours.result, outcomes(neighbours)) == ("late", ["completed"])

        async def recovered() -> bool:
            clock.advance(0.5)
            return all(each.state != "stalled" for each in await _workers(bench))

        await bench.eventually(recovered)


async def _workers(bench: Bench) -> list[model.Worker]:
    return await bench.read(lambda conn: list_workers(conn, bench.database.now_of(conn)))


async def test_a_blocked_loop_that_ignores_a_cancel_costs_the_worker(bench: Bench) -> None:
    """The cancelled run is abandoned, its neighbours are given back, and the worker ends to be replaced."""
    began, blocked, go_on = Gate(), Gate(), Gate()

    @handler("neighbour")
    async def neighbour(ctx: Context) -> None:
        began.open()
        await asyncio.Event().wait()

    @handler("blocks", cancel_grace=0.05)
    async def blocks(ctx: Context) -> None:
        blocked.open()
        go_on.passed_sync()

    neighbour_id = await bench.trigger(neighbour)
    worker = bench.worker(blocks, neighbour, shutdown_grace=0.05)
    task = asyncio.create_task(worker.run())
    await started(worker, task)
    await began.passed()
    run_id = await bench.trigger(blocks)
    await blocked.passed()
    await bench.client.runs.cancel(run_id)
    try:
        assert await task is WorkerEnd.STUCK
    finally:
        go_on.open()
    done, given_back = await bench.run(run_id), await bench.run(neighbour_id)
    assert (done.status, done.failure_kind) == (Status.CANCELLED, "abandoned")
    assert (given_back.status, outcomes(given_back)) == (Status.PENDING, ["interrupted"])


async def test_a_loop_that_only_was_busy_costs_nothing(bench: Bench) -> None:
    """A handler given up while the loop is blocked for a moment frees its slot; the worker is not replaced."""
    blocked, go_on = Gate(), Gate()

    @handler("blocks", cancel_grace=0.02)
    async def blocks(ctx: Context) -> None:
        blocked.open()
        go_on.passed_sync()

    @handler("quick")
    async def quick(ctx: Context) -> str:
        return "still here"

    run_id = await bench.trigger(blocks)
    async with bench.working(blocks, quick, concurrency=1) as worker:
        await blocked.passed()
        await bench.client.runs.cancel(run_id)
        await bench.eventually(lambda: _is_stuck(worker))
        go_on.open()
        assert (await bench.ended(run_id)).failure_kind == "abandoned"
        assert (await bench.ended(await bench.trigger(quick))).result == "still here"
        assert not worker.slots.stuck


async def _is_stuck(worker: Worker) -> bool:
    return bool(worker.slots.stuck)


async def test_the_loop_survives_what_asyncio_lets_through(bench: Bench) -> None:
    """sys.exit() in a task of a handler, or stopping the loop, ends neither the loop nor the neighbours."""
    waiting, go_on = Gate(), Gate()

    @handler("exits", max_attempts=1)
    async def exits(ctx: Context) -> None:
        async def part() -> None:
            sys.exit("bye")

        await asyncio.gather(part())

    @handler("stops")
    async def stops(ctx: Context) -> str:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        return "stopped nothing"

    @handler("neighbour")
    async def neighbour(ctx: Context) -> str:
        waiting.open()
        await go_on.passed()
        return "unharmed"

    neighbour_id = await bench.trigger(neighbour)
    async with bench.working(exits, stops, neighbour):
        await waiting.passed()
        failed = await bench.ended(await bench.trigger(exits))
        stopped = await bench.ended(await bench.trigger(stops))
        go_on.open()
        done = await bench.ended(neighbour_id)
    assert (failed.status, failed.error) == (Status.FAILED, "SystemExit: bye")
    assert (stopped.result, done.result) == ("stopped nothing", "unharmed")
