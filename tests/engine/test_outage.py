"""The database goes away in the middle: nothing is lost, and what may have been taken over is stopped."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from uuid import UUID

import pytest

from jobdeck import CancelReason, Context, handler
from jobdeck.engine.slots import Slots
from jobdeck.engine.worker import Worker, WorkerEnd
from jobdeck.errors import DatabaseUnavailable, OutcomeUnknown
from jobdeck.states import Status
from jobdeck.store.claim import ClaimedRun
from jobdeck.testing import FakeClock
from tests.databases import opened
from tests.engine.bench import Bench, bench_on, outcomes, started
from tests.engine.faults import EVERYTHING, FaultyDatabase, outage
from tests.engine.gate import Gate


async def test_no_outcome_is_lost_in_a_real_outage(database_url: str) -> None:
    """Runs that end while the database is gone are stored when it is back, with every line, and are not run twice."""
    # The wait for SQLite's lock is short, so that it is an outage and no pause.
    async with opened(database_url, busy_timeout=0.1) as database:
        bench = await bench_on(database)
        began, go_on = [Gate() for _ in range(5)], Gate()
        performed: list[UUID] = []

        @handler("work")
        async def work(ctx: Context) -> int:
            number = len(performed)
            performed.append(ctx.run_id)
            began[number].open()
            await go_on.passed()
            ctx.log.info("in the dark")
            ctx.progress(9)
            return ctx.attempt

        bench.offer(work)
        ids = await bench.client.runs.trigger_many("work", [{}] * 5)
        async with bench.working(work, concurrency=5) as worker:
            for gate in began:
                await gate.passed()
            async with outage(database_url):
                go_on.open()
                await bench.eventually(lambda: _refused(worker.slots))
                await asyncio.gather(*[_unreachable(bench, ids[0]) for _ in range(2)])
            done = [await bench.ended(run_id) for run_id in ids]
        assert [(run.status, run.result, run.progress.processed) for run in done] == [
            (Status.COMPLETED, 1, 9)
        ] * 5
        assert len(performed) == 5
        for run_id in ids:
            assert [entry.message for entry in await bench.logs(run_id)] == ["in the dark"]
        bench.client.close()


async def _refused(slots: Slots) -> bool:
    """Whether all handlers have ended and their outcomes wait."""
    return not slots.running and not slots.idle and slots.finished == 0


async def _unreachable(bench: Bench, run_id: UUID) -> None:
    with pytest.raises(DatabaseUnavailable):
        await bench.client.runs.cancel(run_id)


async def test_reports_wait_for_the_database(bench: Bench) -> None:
    """Lines and progress of a failed write are kept, come first when it works again, and come once."""
    first, second = Gate(), Gate()

    @handler("talks")
    async def talks(ctx: Context) -> None:
        ctx.log.info("one")
        ctx.progress(1, message="one")
        await first.passed()
        ctx.log.info("two")
        await second.passed()
        ctx.log.info("three")

    faulty = FaultyDatabase(bench.database)
    faulty.failing = {"report"}
    run_id = await bench.trigger(talks)
    async with bench.working(talks, parts={"database": faulty}, report_every=0.02):
        await bench.eventually(lambda: _count(faulty, "report", 2))
        first.open()
        faulty.failing.clear()
        running = await bench.until(run_id, lambda run: run.progress.processed)
        assert running.progress.message == "one"
        second.open()
        await bench.ended(run_id)
    assert [entry.message for entry in await bench.logs(run_id)] == ["one", "two", "three"]


async def _count(faulty: FaultyDatabase, name: str, number: int) -> bool:
    return faulty.refused[name] >= number


async def test_what_a_handler_asks_waits_for_the_database(bench: Bench) -> None:
    """A checkpoint, a look at the lease and a child: none fails for an outage within the lease, each is done once."""
    refusals = Counter[UUID]()

    async def child(run: ClaimedRun, job_type: str, *_: object) -> UUID:
        refusals[run.id] += 1
        if refusals[run.id] < 3:
            raise DatabaseUnavailable("not now")
        return run.id

    @handler("asks")
    async def asks(ctx: Context) -> list[int]:
        await ctx.checkpoint({"page": 1})
        await ctx.verify_lease()
        assert await ctx.enqueue("child") == ctx.run_id
        return [ctx.attempt, refusals[ctx.run_id]]

    @handler("asks_in_a_thread")
    def asks_in_a_thread(ctx: Context) -> list[int]:
        ctx.checkpoint_sync({"page": 1})
        assert ctx.enqueue_sync("child") == ctx.run_id
        return [ctx.attempt, refusals[ctx.run_id]]

    faulty = FaultyDatabase(bench.database)
    faulty.failing = {"save_checkpoint"}
    ids = [await bench.trigger(spec) for spec in (asks, asks_in_a_thread)]
    async with bench.working(asks, asks_in_a_thread, parts={"database": faulty, "enqueue_child": child}):
        await bench.eventually(lambda: _count(faulty, "save_checkpoint", 4))
        faulty.failing = {"check_lease"}
        await bench.eventually(lambda: _count(faulty, "check_lease", 2))
        faulty.failing = set()
        done = [await bench.ended(run_id) for run_id in ids]
    assert [(run.status, run.result) for run in done] == [(Status.COMPLETED, [1, 3])] * 2


async def test_a_child_that_may_be_stored_is_not_made_again(bench: Bench) -> None:
    """Nobody knows whether the child is there: the handler is told, for a second one could be one too many."""
    asked: list[UUID] = []

    async def child(run: ClaimedRun, job_type: str, *_: object) -> UUID:
        asked.append(run.id)
        raise OutcomeUnknown()

    @handler("asks", max_attempts=1)
    async def asks(ctx: Context) -> None:
        await ctx.enqueue("child")

    run_id = await bench.trigger(asks)
    async with bench.working(asks, parts={"enqueue_child": child}):
        done = await bench.ended(run_id)
    assert (done.status, asked) == (Status.FAILED, [run_id])
    assert done.error is not None
    assert done.error.startswith("OutcomeUnknown: ")


async def test_a_question_ends_with_its_attempt(bench: Bench) -> None:
    """A handler in a thread that waits for the database with a checkpoint is told once it is asked to stop."""
    asked = threading.Event()

    @handler("asks", cancel_grace="10s")
    def asks(ctx: Context) -> None:
        asked.set()
        ctx.checkpoint_sync({"page": 1})

    faulty = FaultyDatabase(bench.database)
    faulty.failing = {"save_checkpoint"}
    run_id = await bench.trigger(asks)
    async with bench.working(asks, parts={"database": faulty}):
        await bench.eventually(lambda: _count(faulty, "save_checkpoint", 2))
        await bench.client.runs.cancel(run_id)
        done = await bench.ended(run_id)
    assert done.status is Status.CANCELLED
    assert outcomes(done) != ["abandoned"]


async def test_beats_missed_within_the_lease_harm_nobody(bench: Bench) -> None:
    """A short outage is ridden out: the same attempt goes on and completes."""
    clock = FakeClock()
    began, go_on = Gate(), Gate()

    @handler("work")
    async def work(ctx: Context) -> bool:
        began.open()
        await go_on.passed()
        return ctx.cancelled

    faulty = FaultyDatabase(bench.database)
    run_id = await bench.trigger(work)
    async with bench.working(work, parts={"database": faulty, "clock": clock}) as worker:
        await began.passed()
        faulty.failing = {EVERYTHING}
        for _ in range(2):
            clock.advance(14)
            assert not await worker.heart.beat()
        faulty.failing.clear()
        assert await worker.heart.beat()
        go_on.open()
        done = await bench.ended(run_id)
    assert (done.result, outcomes(done)) == (False, ["completed"])


@pytest.mark.parametrize("silent", [False, True], ids=["refuses", "gives no answer"])
async def test_beats_missed_beyond_the_lease_stop_the_handlers(bench: Bench, silent: bool) -> None:
    """When no beat has got through for a lease, handlers are told that it is lost and their outcome is not written."""
    clock = FakeClock()
    began, go_on = Gate(), Gate()
    reasons: list[CancelReason | None] = []

    @handler("work", cancel_grace=0.05)
    async def work(ctx: Context) -> str:
        if ctx.attempt > 1:
            return "again"
        began.open()
        while not go_on.is_open:
            try:
                await go_on.passed()
            except asyncio.CancelledError:
                reasons.append(ctx.cancel_reason)
        return "first"

    faulty = FaultyDatabase(bench.database)
    run_id = await bench.trigger(work)
    async with bench.working(work, parts={"database": faulty, "clock": clock}, concurrency=1) as worker:
        await began.passed()
        if silent:
            faulty.hanging = {"beat": Gate()}
        else:
            faulty.failing = {EVERYTHING}
        for _ in range(4):
            await bench.eventually(lambda: _asleep(clock))
            clock.advance(10)
        # Told, cancelled, and given up after its grace: by now the slot is free.
        await bench.eventually(lambda: _no_run_in(worker))
        assert reasons == [CancelReason.LEASE_LOST]
        faulty.failing.clear()
        if silent:
            faulty.hanging.pop("beat").open()
        assert (await bench.run(run_id)).status is Status.RUNNING
        bench.skip(31)
        clock.advance(31)
        await bench.eventually(lambda: _recovered(bench, worker, run_id))
        done = await bench.ended(run_id)
        go_on.open()
    assert (done.status, done.result, outcomes(done)) == (Status.COMPLETED, "again", ["crashed", "completed"])


async def _recovered(bench: Bench, worker: Worker, run_id: UUID) -> bool:
    await worker.rounds.recover()
    return (await bench.run(run_id)).crash_count == 1


async def _asleep(clock: FakeClock) -> bool:
    return clock.sleepers > 0


async def _no_run_in(worker: Worker) -> bool:
    return not worker.slots.running


async def test_a_worker_that_cannot_register_says_so(bench: Bench) -> None:
    """Without a database there is no worker: `run` raises, and nothing of it is left."""

    @handler("work")
    async def work(ctx: Context) -> None: ...

    faulty = FaultyDatabase(bench.database)
    faulty.failing = {EVERYTHING}
    worker = bench.worker(work, parts={"database": faulty})
    with pytest.raises(DatabaseUnavailable):
        await worker.run()
    assert not worker.started.is_set()


async def test_a_worker_whose_heart_fails_ends(bench: Bench) -> None:
    """An error that is none of the database's ends the worker with it: better than runs that nobody beats."""
    began, ended = Gate(), Gate()

    @handler("work")
    async def work(ctx: Context) -> None:
        began.open()
        try:
            await ctx.sleep("1h")
        finally:
            ended.open()

    faulty = FaultyDatabase(bench.database)
    clock = FakeClock()
    await bench.trigger(work)
    worker = bench.worker(work, parts={"database": faulty, "clock": clock}, poll=0.05)
    task = asyncio.create_task(worker.run())
    await started(worker, task)
    await began.passed()
    faulty.breaking = {"beat": ZeroDivisionError("a bug")}
    clock.advance(11)
    with pytest.raises(RuntimeError, match="a service of the worker has failed") as caught:
        await task
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    await ended.passed()


async def test_a_stop_in_an_outage_ends(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is stopped while the database is gone ends; its run is recovered after the lease."""
    monkeypatch.setattr("jobdeck.engine.worker._LET_GO", 0.1)
    began = Gate()

    @handler("work")
    async def work(ctx: Context) -> str:
        if ctx.attempt == 1:
            began.open()
            await ctx.sleep("1h")
        return "second"

    faulty = FaultyDatabase(bench.database)
    run_id = await bench.trigger(work)
    worker = bench.worker(work, parts={"database": faulty}, shutdown_grace=0)
    task = asyncio.create_task(worker.run())
    await started(worker, task)
    await began.passed()
    faulty.failing = {EVERYTHING}
    worker.stop()
    assert await task is WorkerEnd.STOPPED
    bench.skip(31)
    async with bench.working(work):
        done = await bench.ended(run_id)
    assert (done.result, outcomes(done)) == ("second", ["crashed", "completed"])


@pytest.mark.parametrize("drain", [False, True], ids=["at work", "draining"])
async def test_a_stop_does_not_wait_for_an_answer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, drain: bool
) -> None:
    """A database that neither answers nor refuses holds up no part of an orderly stop."""
    monkeypatch.setattr("jobdeck.engine.worker._LET_GO", 0.1)
    began, never = Gate(), Gate()

    @handler("work")
    async def work(ctx: Context) -> None:
        began.open()
        await ctx.sleep("1h")

    before = asyncio.all_tasks()
    faulty = FaultyDatabase(bench.database)
    if drain:
        faulty.hanging = {"read": never}
    else:
        await bench.trigger(work)
    worker = bench.worker(work, parts={"database": faulty}, shutdown_grace=0, drain=drain, poll=0.05)
    task = asyncio.create_task(worker.run())
    await started(worker, task)
    if drain:
        await bench.eventually(lambda: _called(faulty, "read"))
    else:
        await began.passed()
    faulty.hanging = dict.fromkeys(["beat", "finish", "leave", "recover", "report", "read"], never)
    await bench.eventually(lambda: _called(faulty, "read"))
    worker.stop()
    assert await asyncio.wait_for(task, 20) is WorkerEnd.STOPPED
    never.open()
    if left := asyncio.all_tasks() - before:
        await asyncio.wait(left, timeout=20)


async def _called(faulty: FaultyDatabase, name: str) -> bool:
    return faulty.calls[name] > 0


async def test_a_drain_waits_for_the_database(bench: Bench) -> None:
    """A draining worker that cannot look whether anything is left goes on until it can."""

    @handler("work")
    async def work(ctx: Context) -> None: ...

    faulty = FaultyDatabase(bench.database)
    faulty.failing = {"read", "claim"}
    run_id = await bench.trigger(work)
    task = asyncio.create_task(bench.worker(work, parts={"database": faulty}, drain=True, poll=0.05).run())
    await bench.eventually(lambda: _count(faulty, "read", 3))
    assert not task.done()
    faulty.failing.clear()
    assert await task is WorkerEnd.DRAINED
    assert (await bench.run(run_id)).status is Status.COMPLETED
