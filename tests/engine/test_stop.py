"""A worker that is stopped: what may end in the grace, what is given back, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest
from sqlalchemy import Connection, select

from jobdeck import CancelReason, Context, GuardedClient, handler
from jobdeck.engine.worker import WorkerEnd
from jobdeck.net import AddressPolicy
from jobdeck.states import Status
from jobdeck.store.fleet import list_workers
from jobdeck.store.schema import leases
from tests.engine.bench import Bench, outcomes, started
from tests.engine.gate import Gate, asked_to_stop


def beats(conn: Connection) -> list[int]:
    """When the leases were extended last."""
    return [row.beat_at for row in conn.execute(select(leases.c.beat_at).order_by(leases.c.run_id))]


async def test_a_stop_lets_work_end_and_gives_back_the_rest(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R21: in the grace it beats and takes nothing new; one run ends, the others go back, none burns an attempt."""
    monkeypatch.setattr("jobdeck.engine.worker._LET_GO", 0.1)
    gates = {name: Gate() for name in ("short", "long", "deaf", "released", "let_go")}
    reasons: list[CancelReason | None] = []

    @handler("short", max_attempts=1)
    async def short(ctx: Context) -> str:
        gates["short"].open()
        await gates["released"].passed()
        return "in the grace"

    @handler("long", max_attempts=1)
    async def long(ctx: Context) -> None:
        gates["long"].open()
        try:
            await ctx.sleep("1m")
        finally:
            reasons.append(ctx.cancel_reason)

    @handler("deaf", max_attempts=1)
    async def deaf(ctx: Context) -> None:
        gates["deaf"].open()
        while not gates["let_go"].is_open:
            try:
                await gates["let_go"].passed()
            except asyncio.CancelledError:
                continue

    specs = (short, long, deaf)
    ids = {spec.job_type: await bench.trigger(spec) for spec in specs}
    worker = bench.worker(*specs, lease=2.0, shutdown_grace=60.0)
    task = asyncio.create_task(worker.run())
    for name in ids:
        await gates[name].passed()
    worker.stop()
    await bench.eventually(lambda: _state(bench, "draining"))
    late = await bench.trigger(short)
    before = await bench.read(beats)

    async def all_beat() -> bool:
        return all(new > old for old, new in zip(before, await bench.read(beats), strict=True))

    await bench.eventually(all_beat)
    gates["released"].open()
    assert (await bench.ended(ids["short"])).result == "in the grace"
    worker.stop()
    assert await task is WorkerEnd.STOPPED
    gates["let_go"].open()
    assert (await bench.run(late)).status is Status.PENDING
    assert reasons == [CancelReason.SHUTDOWN]
    for name in ("long", "deaf"):
        given_back = await bench.run(ids[name])
        assert (given_back.status, given_back.failures, outcomes(given_back)) == (
            Status.PENDING, 0, ["interrupted"],
        )  # fmt: skip
    assert await bench.read(beats) == []
    assert await _state(bench, "stopped")


async def _state(bench: Bench, state: str) -> bool:
    workers = await bench.read(lambda conn: list_workers(conn, bench.database.now_of(conn)))
    return any(worker.state == state for worker in workers)


async def test_what_is_given_back_is_taken_at_once(bench: Bench) -> None:
    """An interrupted run waits for no backoff: another worker goes on with it, from its checkpoint."""
    began = Gate()

    @handler("long", max_attempts=1)
    async def long(ctx: Context) -> Any:
        if ctx.resume is None:
            await ctx.checkpoint({"page": 7})
            began.open()
            await asyncio.Event().wait()
        return ctx.resume

    run_id = await bench.trigger(long)
    async with bench.working(long, shutdown_grace=0):
        await began.passed()
    given_back = await bench.run(run_id)
    assert given_back.attempts[-1].finished_at == given_back.due_at
    async with bench.working(long):
        done = await bench.ended(run_id)
    assert (done.status, done.result, done.attempt, done.failures) == (Status.COMPLETED, {"page": 7}, 2, 0)
    assert outcomes(done) == ["interrupted", "completed"]


async def test_a_cancel_during_the_grace_is_honoured(bench: Bench) -> None:
    """R23 in a stop: asked while the worker drains, the run ends as cancelled and the worker with it."""
    began = Gate()

    @handler("long", cancel_grace=60)
    async def long(ctx: Context) -> None:
        began.open()
        await ctx.sleep("1h")

    run_id = await bench.trigger(long)
    worker = bench.worker(long, shutdown_grace=60.0)
    task = asyncio.create_task(worker.run())
    await began.passed()
    worker.stop()
    await bench.client.runs.cancel(run_id)
    assert await task is WorkerEnd.STOPPED
    done = await bench.run(run_id)
    assert (done.status, outcomes(done)) == (Status.CANCELLED, ["cancelled"])


async def test_a_cancel_asked_before_the_stop_is_not_given_back(bench: Bench) -> None:
    """A run that ignores its cancel until the worker ends is cancelled, not pending again."""
    told = Gate()

    @handler("slow", cancel_grace=60)
    async def slow(ctx: Context) -> None:
        await asked_to_stop(ctx)
        told.open()
        await asyncio.Event().wait()

    run_id = await bench.trigger(slow)
    async with bench.working(slow, shutdown_grace=0):
        await bench.until(run_id, lambda run: run.worker_id)
        await bench.client.runs.cancel(run_id)
        await told.passed()
    done = await bench.run(run_id)
    assert (done.status, done.cancel_requested_by) == (Status.CANCELLED, "ann")


async def test_a_stop_before_the_start_ends_at_once(bench: Bench) -> None:
    """A worker stopped before it runs takes nothing."""

    @handler("task")
    async def task(ctx: Context) -> None: ...

    run_id = await bench.trigger(task)
    worker = bench.worker(task)
    worker.stop()
    assert await worker.run() is WorkerEnd.STOPPED
    assert (await bench.run(run_id)).status is Status.PENDING


class WatchedClient(GuardedClient):
    """Notes on which thread it was made and closed."""

    def __init__(self, notes: list[str]) -> None:
        super().__init__(AddressPolicy(()))
        self._notes = notes
        notes.append(f"made on {threading.current_thread().name}")

    async def aclose(self) -> None:
        await super().aclose()
        self._notes.append(f"closed on {threading.current_thread().name}")


async def test_the_http_client_is_closed(bench: Bench) -> None:
    """It lives and ends on the handlers' loop."""
    notes: list[str] = []

    @handler("task")
    async def task(ctx: Context) -> None: ...

    async with bench.working(task, parts={"http": lambda: WatchedClient(notes)}):
        await bench.ended(await bench.trigger(task))
    assert notes == ["made on jobdeck-handlers", "closed on jobdeck-handlers"]


async def test_twenty_starts_and_stops_leave_nothing_behind(bench: Bench) -> None:
    """After each life with runs in it: the same tasks, threads, log handlers and connections as before."""

    @handler("quick")
    async def quick(ctx: Context) -> None: ...

    @handler("plain")
    def plain(ctx: Context) -> None: ...

    @handler("long")
    async def long(ctx: Context) -> None:
        await ctx.sleep("1h")

    async def live() -> None:
        ids = [await bench.trigger(spec) for spec in (quick, plain)]
        async with bench.working(quick, plain, long, shutdown_grace=0):
            for run_id in ids:
                await bench.ended(run_id)
            await bench.until(endless, lambda run: run.worker_id)

    endless = await bench.trigger(long)
    await live()
    tasks, threads, handlers = asyncio.all_tasks(), _threads(), list(logging.root.handlers)
    for _ in range(19):
        await live()
    # A handler's own thread ends a moment after its outcome has been handed over, and so does the task of a connection.
    await bench.eventually(lambda: _no_more_than(tasks, threads))
    assert asyncio.all_tasks() == tasks
    assert (logging.root.handlers, bench.database.checked_out()) == (handlers, 0)
    assert len((await bench.run(endless)).attempts) == 20


async def _no_more_than(tasks: set[asyncio.Task[Any]], threads: int) -> bool:
    return _threads() <= threads and asyncio.all_tasks() <= tasks


def _threads() -> int:
    """Those of the database that read are started as they are needed, and stay."""
    return sum(not thread.name.startswith("jobdeck-reader") for thread in threading.enumerate())


async def test_a_worker_that_cannot_be_made_leaves_nothing_behind(bench: Bench) -> None:
    """Where its HTTP client fails to start, `run` raises that; its threads and log handlers are gone."""

    @handler("task")
    async def task(ctx: Context) -> None: ...

    def broken() -> GuardedClient:
        raise OSError("no sockets left")

    await bench.outcome(task)
    threads, handlers = _threads(), list(logging.root.handlers)
    with pytest.raises(OSError, match="no sockets left"):
        await bench.worker(task, parts={"http": broken}).run()
    assert (_threads(), logging.root.handlers) == (threads, handlers)


async def test_a_worker_that_is_cancelled_leaves_its_runs_to_others(bench: Bench) -> None:
    """Cancelling `run` itself is like a crash in order: threads end, and the run is recovered after its lease."""
    began = Gate()

    @handler("long")
    async def long(ctx: Context) -> str:
        if ctx.attempt == 1:
            began.open()
            await asyncio.Event().wait()
        return "second"

    run_id = await bench.trigger(long)
    worker = bench.worker(long)
    task = asyncio.create_task(worker.run())
    await started(worker, task)
    await began.passed()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    bench.skip(31)
    async with bench.working(long):
        done = await bench.ended(run_id)
    assert (done.result, outcomes(done)) == ("second", ["crashed", "completed"])
