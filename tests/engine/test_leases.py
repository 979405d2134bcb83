"""Runs whose worker falls silent: who takes them over, what the first one may still do, and when it is enough."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from jobdeck import CancelReason, Context, StaleLease, handler, limits
from jobdeck.engine.worker import Worker
from jobdeck.model import Run
from jobdeck.states import Status
from jobdeck.testing import FakeClock
from tests.engine.bench import Bench, outcomes
from tests.engine.gate import Gate


def crashed_times(number: int) -> Callable[[Run], bool]:
    """Whether so many workers have died of the run."""
    return lambda run: run.crash_count == number


def failed_times(number: int) -> Callable[[Run], bool]:
    """Whether so many attempts have failed."""
    return lambda run: run.failures == number


async def test_a_silent_worker_is_replaced_and_fenced(bench: Bench) -> None:
    """After the lease another worker takes the run over; the first is told, and nothing it writes is taken."""
    clock = FakeClock()
    began, checked, told, go_on = Gate(), Gate(), Gate(), Gate()
    fences: list[int] = []

    @handler("work", cancel_grace=60)
    async def work(ctx: Context) -> str:
        fences.append(ctx.fence)
        if ctx.attempt == 2:
            ctx.progress(2, message="second")
            return f"second, after {ctx.resume}"
        ctx.progress(1, message="first")
        await ctx.checkpoint("page 1")
        began.open()
        await go_on.passed()
        for refused in (ctx.checkpoint("page 2"), ctx.verify_lease()):
            with pytest.raises(StaleLease):
                await refused
        ctx.log.error("who is there?")
        ctx.progress(99, message="first again")
        checked.open()
        try:
            await ctx.sleep("1h")
        finally:
            assert ctx.cancel_reason is CancelReason.LEASE_LOST
            told.open()
        return "first"

    run_id = await bench.trigger(work)
    # Its services beat and report when the test moves its clock, and so never after this.
    async with bench.working(work, parts={"clock": clock}, concurrency=1) as first:
        await began.passed()
        clock.advance(1)
        await bench.until(run_id, lambda run: run.progress.message == "first")
        bench.skip(31)
        async with bench.working(work) as second:
            done = await bench.ended(run_id)
            go_on.open()
            await checked.passed()
            clock.advance(15)
            await told.passed()
            await bench.eventually(lambda: _idle(first))
            assert await bench.run(run_id) == done
            assert await bench.logs(run_id) == []
    assert (done.status, done.result) == (Status.COMPLETED, "second, after page 1")
    assert (outcomes(done), fences) == (["crashed", "completed"], [1, 2])
    assert [attempt.worker_id for attempt in done.attempts] == [first.id, second.id]
    assert (done.crash_count, done.failures, done.progress.processed) == (1, 0, 2)
    error = done.attempts[0].error or ""
    assert error.startswith(f"worker {first.name} stopped reporting 3")
    assert error.endswith("s ago; last progress: first")


async def _idle(worker: Worker) -> bool:
    return not worker.slots.running


async def test_a_lost_run_that_ignores_it_writes_no_outcome(bench: Bench) -> None:
    """A handler that does not stop when its lease is lost is dropped: the other worker's outcome is the only one."""
    clock = FakeClock()
    began, go_on = Gate(), Gate()

    @handler("deaf", cancel_grace=0.05)
    async def deaf(ctx: Context) -> str:
        if ctx.attempt == 2:
            return "second"
        began.open()
        while not go_on.is_open:
            try:
                await go_on.passed()
            except asyncio.CancelledError:
                continue
        return "first"

    @handler("other")
    async def other(ctx: Context) -> None: ...

    run_id = await bench.trigger(deaf)
    async with bench.working(deaf, other, parts={"clock": clock}, concurrency=1) as first:
        await began.passed()
        bench.skip(31)
        async with bench.working(deaf):
            assert (await bench.ended(run_id)).result == "second"
        clock.advance(15)
        await bench.eventually(lambda: _idle(first))
        # Its slot is free again, whatever the handler does.
        await bench.ended(await bench.trigger(other))
        go_on.open()
    done = await bench.run(run_id)
    assert (done.status, outcomes(done)) == (Status.COMPLETED, ["crashed", "completed"])


async def test_three_crashes_are_enough(bench: Bench) -> None:
    """A run that has taken three workers with it is dead, with its last words; errors are counted apart."""
    began = [Gate() for _ in range(limits.CRASH_BUDGET)]

    @handler("deadly", max_attempts=1)
    async def deadly(ctx: Context) -> None:
        ctx.progress(ctx.attempt, message=f"attempt {ctx.attempt}")
        began[ctx.attempt - 1].open()
        await asyncio.Event().wait()

    @handler("other")
    async def other(ctx: Context) -> None: ...

    run_id = await bench.trigger(deadly)
    for number in range(limits.CRASH_BUDGET):
        clock = FakeClock()
        async with bench.working(deadly, parts={"clock": clock}, concurrency=1):
            await began[number].passed()
            clock.advance(1)
            await bench.until(run_id, lambda run: str(run.attempt) in run.progress.message)
            bench.skip(31)
            async with bench.working(other) as rescuer:
                await bench.until(run_id, crashed_times(number + 1))
                await rescuer.rounds.recover()
    dead = await bench.run(run_id)
    assert (dead.status, dead.failure_kind, dead.crash_count, dead.failures) == (Status.DEAD, "crashed", 3, 0)
    assert outcomes(dead) == ["crashed"] * 3
    assert (dead.error or "").endswith("last progress: attempt 3")


async def test_a_crash_after_a_cancel_is_a_cancel(bench: Bench) -> None:
    """A run whose worker dies before it could obey is cancelled by whoever recovers it."""
    began = Gate()

    @handler("work", cancel_grace=60)
    async def work(ctx: Context) -> None:
        began.open()
        await asyncio.Event().wait()

    run_id = await bench.trigger(work)
    async with bench.working(work, parts={"clock": FakeClock()}):
        await began.passed()
        await bench.client.runs.cancel(run_id)
        bench.skip(31)
        async with bench.working(work):
            done = await bench.ended(run_id)
    assert (done.status, outcomes(done)) == (Status.CANCELLED, ["crashed"])


async def test_a_live_worker_is_never_robbed(bench: Bench) -> None:
    """While beats arrive, nobody takes its runs over, however long they take."""
    began, go_on = Gate(), Gate()

    @handler("long")
    async def long(ctx: Context) -> None:
        began.open()
        await go_on.passed()

    run_id = await bench.trigger(long)
    async with bench.working(long) as first, bench.working(long) as second:
        await began.passed()
        for _ in range(8):
            bench.skip(12)
            assert await first.heart.beat()
            assert await second.heart.beat()
            assert await second.rounds.recover() == 0
        go_on.open()
        done = await bench.ended(run_id)
    assert outcomes(done) == ["completed"]


async def test_a_checkpoint_survives_failures(bench: Bench) -> None:
    """Each attempt goes on from what the last one saved, the newest checkpoint wins."""

    @handler("pages", max_attempts=3)
    async def pages(ctx: Context) -> list[int]:
        done: list[int] = ctx.resume or []
        for page in range(len(done), 6):
            done.append(page)
            await ctx.checkpoint(done)
            if page in (1, 3):
                raise ConnectionError
        return done

    run_id = await bench.trigger(pages)
    async with bench.working(pages):
        for failures in (1, 2):
            await bench.until(run_id, failed_times(failures))
            bench.skip(60)
        done = await bench.ended(run_id)
    assert (done.result, outcomes(done)) == ([0, 1, 2, 3, 4, 5], ["error", "error", "completed"])


async def test_a_checkpoint_has_a_limit(bench: Bench) -> None:
    """One that is too large or no JSON is an error of the handler; the one before stays."""

    @handler("hoards", max_attempts=1)
    async def hoards(ctx: Context) -> str:
        with pytest.raises(Exception, match="checkpoint has 262,146 bytes"):
            await ctx.checkpoint("x" * limits.CHECKPOINT_BYTES)
        with pytest.raises(Exception, match="NUL"):
            await ctx.checkpoint({"a": "\x00"})
        return "fine"

    assert (await bench.outcome(hoards)).result == "fine"
