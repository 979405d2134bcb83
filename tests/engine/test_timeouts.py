"""A timeout ends an attempt, whatever its handler thinks of that."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from jobdeck import Backoff, CancelReason, Context, StaleLease, handler
from jobdeck.engine.worker import WorkerEnd
from jobdeck.states import Status
from tests.engine.bench import Bench, outcomes, started
from tests.engine.gate import Gate


async def test_an_attempt_past_its_timeout_is_a_failure(bench: Bench) -> None:
    """It is cancelled, counted and tried again; the second one in time completes."""

    @handler("slow", max_attempts=2, timeout=0.05, backoff=Backoff(base=0))
    async def slow(ctx: Context) -> str:
        if ctx.attempt == 1:
            await asyncio.Event().wait()
        return "in time"

    done = await bench.outcome(slow)
    assert (done.status, done.result, done.failures) == (Status.COMPLETED, "in time", 1)
    assert outcomes(done) == ["timed_out", "completed"]
    assert done.attempts[0].error == "the attempt ran past its timeout"


async def test_the_trigger_may_set_another_timeout(bench: Bench) -> None:
    """The run's own timeout goes before the job type's; ctx.sleep wakes and says why."""
    reasons: list[CancelReason | None] = []

    @handler("slow", max_attempts=1, timeout="1h")
    async def slow(ctx: Context) -> None:
        try:
            await ctx.sleep("1h")
        finally:
            reasons.append(ctx.cancel_reason)

    run_id = await bench.trigger(slow, timeout=timedelta(seconds=0.05))
    async with bench.working(slow):
        done = await bench.ended(run_id)
    assert (done.status, done.failure_kind) == (Status.FAILED, "timed_out")
    assert reasons == [CancelReason.TIMEOUT]


async def test_a_result_after_the_timeout_is_not_taken(bench: Bench) -> None:
    """A handler that swallows the cancel and answers is timed out all the same."""

    @handler("late", max_attempts=1, timeout=0.05)
    async def late(ctx: Context) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "too late"
        return "never"

    done = await bench.outcome(late)
    assert (done.status, done.failure_kind, done.result) == (Status.FAILED, "timed_out", None)
    assert done.error == "the handler went on past its timeout; its result is not taken"


async def test_a_handler_that_swallows_the_cancel_leaks_no_slot(bench: Bench) -> None:
    """R24: it is timed out once, its slot works on, and what it still says and answers is refused."""
    swallowed, go_on, refused = Gate(), Gate(), Gate()

    @handler("stubborn", max_attempts=1, timeout=0.05, cancel_grace=0.1)
    async def stubborn(ctx: Context) -> str:
        while not swallowed.is_open:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed.open()
        await go_on.passed()
        ctx.log.error("still here")
        with pytest.raises(StaleLease):
            await ctx.checkpoint({"late": True})
        refused.open()
        return "too late"

    @handler("next")
    async def following(ctx: Context) -> str:
        return "done"

    run_id = await bench.trigger(stubborn)
    async with bench.working(stubborn, following, concurrency=1) as worker:
        await swallowed.passed()
        done = await bench.ended(run_id)
        assert (done.status, done.failure_kind, outcomes(done)) == (Status.FAILED, "timed_out", ["timed_out"])
        assert done.error == "the handler ran past its timeout and did not stop"
        assert (await bench.ended(await bench.trigger(following))).result == "done"
        go_on.open()
        await refused.passed()
        assert (await bench.ended(await bench.trigger(following))).result == "done"
        assert await bench.run(run_id) == done
        assert await bench.logs(run_id) == []
        assert not worker.slots.stuck


async def test_a_thread_that_ignores_it_costs_the_worker(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can end a thread: the run is timed out, the worker ends as stuck and gives its other runs back."""
    monkeypatch.setattr("jobdeck.engine.worker._LET_GO", 0.1)
    began, other_began, go_on = Gate(), Gate(), Gate()

    @handler("deaf", max_attempts=1, timeout=0.1, cancel_grace=0.1)
    def deaf(ctx: Context) -> None:
        began.open()
        go_on.passed_sync()

    @handler("other")
    async def other(ctx: Context) -> None:
        other_began.open()
        await asyncio.Event().wait()

    deaf_id, other_id = await bench.trigger(deaf), await bench.trigger(other)
    worker = bench.worker(deaf, other, shutdown_grace=0.05)
    task = asyncio.create_task(worker.run())
    await started(worker, task)
    await began.passed()
    await other_began.passed()
    try:
        assert await task is WorkerEnd.STUCK
    finally:
        go_on.open()
    assert (await bench.run(deaf_id)).failure_kind == "timed_out"
    given_back = await bench.run(other_id)
    assert (given_back.status, given_back.failures, outcomes(given_back)) == (
        Status.PENDING,
        0,
        ["interrupted"],
    )


async def test_a_thread_that_looks_ends_in_time(bench: Bench) -> None:
    """A sync handler in `sleep_sync` wakes, ends, and its worker works on."""

    @handler("polite", max_attempts=1, timeout=0.05, cancel_grace=5)
    def polite(ctx: Context) -> None:
        ctx.sleep_sync("1h")

    run_id = await bench.trigger(polite)
    async with bench.working(polite):
        done = await bench.ended(run_id)
        again = await bench.ended(await bench.trigger(polite))
    assert [(run.status, outcomes(run)) for run in (done, again)] == [(Status.FAILED, ["timed_out"])] * 2
