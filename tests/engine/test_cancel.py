"""The ladder by which a run is cancelled: asked, told, cancelled, given up; and what it may still answer."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from jobdeck import CancelReason, Context, Snooze, StaleLease, handler
from jobdeck.errors import NotCancellable
from jobdeck.model import CancelEffect
from jobdeck.states import Status
from tests.engine.bench import Bench, outcomes
from tests.engine.faults import FaultyDatabase
from tests.engine.gate import Gate, asked_to_stop

# Longer than any test waits: what happens sooner was not caused by it.
NEVER = 3_600.0


async def test_a_sleeping_handler_wakes_at_once(bench: Bench) -> None:
    """The hint of the cancel wakes ctx.sleep; the run is cancelling, then cancelled, with who, when and why."""
    asleep, told, go_on = Gate(), Gate(), Gate()

    @handler("sleeper", cancel_grace=NEVER)
    async def sleeper(ctx: Context) -> None:
        asleep.open()
        try:
            await ctx.sleep("1h")
        finally:
            assert ctx.cancelled
            assert ctx.cancel_reason is CancelReason.USER
            told.open()
            await go_on.passed()

    run_id = await bench.trigger(sleeper)
    async with bench.working(sleeper, cancel_notice=NEVER):
        await asleep.passed()
        reply = await bench.client.runs.cancel(run_id, reason="wrong account")
        assert (reply.cancelled, reply.effect, reply.status) == (
            False,
            CancelEffect.REQUESTED,
            Status.RUNNING,
        )
        await told.passed()
        assert (await bench.run(run_id)).label == "cancelling"
        go_on.open()
        done = await bench.ended(run_id)
    assert (done.status, done.failure_kind, done.error, outcomes(done)) == (
        Status.CANCELLED, None, None, ["cancelled"],
    )  # fmt: skip
    assert (done.cancel_requested_by, done.cancel_reason) == ("ann", "wrong account")
    assert done.cancel_requested_at is not None
    with pytest.raises(NotCancellable):
        await bench.client.runs.cancel(run_id)


async def test_without_hints_it_is_noticed_within_the_notice(bench: Bench) -> None:
    """A worker that hears no hints looks by itself, long before its next beat."""
    asleep = Gate()

    @handler("sleeper", cancel_grace=NEVER)
    async def sleeper(ctx: Context) -> None:
        asleep.open()
        await ctx.sleep("1h")

    run_id = await bench.trigger(sleeper)
    deaf = FaultyDatabase(bench.database, deaf=True)
    async with bench.working(sleeper, parts={"database": deaf}, cancel_notice=0.1, lease=NEVER):
        await asleep.passed()
        began = time.monotonic()
        await bench.client.runs.cancel(run_id)
        assert (await bench.ended(run_id)).status is Status.CANCELLED
    assert time.monotonic() - began < 2


async def test_a_thread_is_told_too(bench: Bench) -> None:
    """A sync handler wakes from sleep_sync, and raise_if_cancelled ends one that works."""
    began = [Gate(), Gate()]

    @handler("sleeps", cancel_grace=NEVER)
    def sleeps(ctx: Context) -> None:
        began[0].open()
        try:
            ctx.sleep_sync("1h")
        except Exception as error:  # what a careless handler writes must not swallow the cancel
            raise AssertionError from error

    @handler("works", cancel_grace=NEVER)
    def works(ctx: Context) -> None:
        began[1].open()
        while True:
            ctx.raise_if_cancelled()
            threading.Event().wait(0.005)

    ids = [await bench.trigger(sleeps), await bench.trigger(works)]
    async with bench.working(sleeps, works, cancel_notice=NEVER):
        for gate, run_id in zip(began, ids, strict=True):
            await gate.passed()
            await bench.client.runs.cancel(run_id)
        done = [await bench.ended(run_id) for run_id in ids]
    assert [(run.status, outcomes(run)) for run in done] == [(Status.CANCELLED, ["cancelled"])] * 2


async def test_a_handler_that_does_not_look_is_cancelled(bench: Bench) -> None:
    """After the grace its task is cancelled at its await; before that it goes on."""
    began = Gate()
    seen: list[bool] = []

    # As long again it has for the cancel, also on a busy machine.
    @handler("busy", cancel_grace=0.5)
    async def busy(ctx: Context) -> None:
        began.open()
        try:
            await asyncio.Event().wait()
        finally:
            seen.append(ctx.cancelled)

    run_id = await bench.trigger(busy)
    async with bench.working(busy):
        await began.passed()
        asked = time.monotonic()
        await bench.client.runs.cancel(run_id)
        done = await bench.ended(run_id)
    assert time.monotonic() - asked >= 0.5
    assert (done.status, outcomes(done), seen) == (Status.CANCELLED, ["cancelled"], [True])


async def test_a_handler_that_ignores_everything_is_given_up(bench: Bench) -> None:
    """After the second grace the run ends as cancelled and abandoned; what comes later is refused; others go on."""
    began, go_on, refused = Gate(), Gate(), Gate()

    @handler("deaf", cancel_grace=0.05)
    async def deaf(ctx: Context) -> str:
        began.open()
        while not go_on.is_open:
            try:
                await go_on.passed()
            except asyncio.CancelledError:
                continue
        ctx.progress(100, message="all done")
        with pytest.raises(StaleLease):
            await ctx.verify_lease()
        refused.open()
        return "result"

    @handler("other")
    async def other(ctx: Context) -> None: ...

    run_id = await bench.trigger(deaf)
    async with bench.working(deaf, other, concurrency=1):
        await began.passed()
        await bench.client.runs.cancel(run_id)
        done = await bench.ended(run_id)
        assert (done.status, done.failure_kind, outcomes(done)) == (
            Status.CANCELLED,
            "abandoned",
            ["abandoned"],
        )
        assert done.error == "the handler ignored the cancel and was given up"
        await bench.ended(await bench.trigger(other))
        go_on.open()
        await refused.passed()
        await bench.ended(await bench.trigger(other))
        assert await bench.run(run_id) == done


async def test_a_result_after_the_request_is_kept(bench: Bench) -> None:
    """R23: a handler that finishes its work has completed; the request stays on the record."""
    began = Gate()

    @handler("finisher", cancel_grace=NEVER)
    async def finisher(ctx: Context) -> str:
        began.open()
        await asked_to_stop(ctx)
        return "done after all"

    run_id = await bench.trigger(finisher)
    async with bench.working(finisher):
        await began.passed()
        await bench.client.runs.cancel(run_id)
        done = await bench.ended(run_id)
    assert (done.status, done.result, outcomes(done)) == (Status.COMPLETED, "done after all", ["completed"])
    assert (done.cancel_requested_by, done.label) == ("ann", "completed")


async def test_whatever_else_ends_it_after_the_request_is_a_cancel(bench: Bench) -> None:
    """An error, a snooze or a timeout after the request puts nothing back: the run is cancelled."""

    @handler("fails", cancel_grace=NEVER)
    async def fails(ctx: Context) -> None:
        await asked_to_stop(ctx)
        raise OSError("disk")

    @handler("snoozes", cancel_grace=NEVER)
    async def snoozes(ctx: Context) -> None:
        await asked_to_stop(ctx)
        raise Snooze("1h")

    @handler("hangs", cancel_grace=NEVER, timeout=0.3)
    async def hangs(ctx: Context) -> None:
        await asked_to_stop(ctx)
        await asyncio.Event().wait()

    specs = (fails, snoozes, hangs)
    ids = [await bench.trigger(spec) for spec in specs]
    async with bench.working(*specs):
        for run_id in ids:
            await bench.until(run_id, lambda run: run.worker_id)
            await bench.client.runs.cancel(run_id)
        done = [await bench.ended(run_id) for run_id in ids]
    assert [(run.status, run.label) for run in done] == [(Status.CANCELLED, "cancelled")] * 3


async def test_a_waiting_run_never_begins(bench: Bench) -> None:
    """A pending run is cancelled at once, a retrying one too; no handler sees them again."""
    performed: list[int] = []

    @handler("fails")
    async def fails(ctx: Context) -> None:
        performed.append(ctx.attempt)
        raise OSError

    pending = await bench.trigger(fails)
    assert (await bench.client.runs.cancel(pending)).cancelled
    retrying = await bench.trigger(fails)
    async with bench.working(fails):
        await bench.until(retrying, lambda run: run.failures)
        assert (await bench.client.runs.cancel(retrying)).cancelled
        bench.skip(3_600)
        await bench.ended(await bench.trigger(fails, max_attempts=1))
    assert performed == [1, 1]
    assert [(await bench.run(each)).status for each in (pending, retrying)] == [Status.CANCELLED] * 2


async def test_a_cancel_between_claim_and_start_is_seen(bench: Bench) -> None:
    """A run cancelled as soon as it is claimed ends as cancelled, whether its handler had begun or not."""

    @handler("eager", cancel_grace=NEVER)
    async def eager(ctx: Context) -> Any:
        await ctx.sleep("1h")

    ids = await _many(bench, eager, 20)
    async with bench.working(eager, concurrency=20):
        for run_id in ids:
            await bench.until(run_id, lambda run: run.status is not Status.PENDING)
            await bench.client.runs.cancel(run_id)
        done = [await bench.ended(run_id) for run_id in ids]
    assert {run.status for run in done} == {Status.CANCELLED}


async def _many(bench: Bench, spec: Any, number: int) -> list[Any]:
    bench.offer(spec)
    return await bench.client.runs.trigger_many(spec.job_type, [{}] * number)
