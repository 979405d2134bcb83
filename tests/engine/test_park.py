"""Runs that a handler has parked: no slot, no worker, and a token by which another system ends them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobdeck import Backoff, Context, Growth, Park, Retry, StaleLease, ValidationError, handler, limits
from jobdeck.clock import from_us
from jobdeck.engine.worker import WorkerEnd
from jobdeck.errors import NotParked
from jobdeck.model import Run, RunFilter
from jobdeck.states import OnConflict, Status
from jobdeck.store.fleet import list_workers
from jobdeck.store.schema import leases
from jobdeck.testing import run_handler
from tests.engine.bench import Bench, outcomes
from tests.engine.gate import Gate
from tests.engine.isolated_handlers import isolated_order

TOKENS: list[str] = []


@handler("order", max_attempts=2)
async def order(ctx: Context) -> None:
    """Hands its token over and leaves the run."""
    ctx.progress(1, total=2, message="ordered")
    ctx.log.info("ordered")
    TOKENS.append(ctx.token)
    raise Park("1h")


@pytest.fixture(autouse=True)
def _no_tokens() -> None:
    TOKENS.clear()


def is_parked(run: Run) -> bool:
    return run.label == "parked"


async def test_a_parked_run_frees_its_slot(bench: Bench) -> None:
    """One slot parks many runs. They are running, belong to no worker, and outlive the lease of the one they had."""
    ids = [await bench.trigger(order) for _ in range(3)]
    async with bench.working(order, concurrency=1):
        for run_id in ids:
            run = await bench.until(run_id, is_parked)
            assert (run.status, run.worker_id, run.attempt) == (Status.RUNNING, None, 1)
            assert (run.progress.message, outcomes(run)) == ("ordered", [None])
        held = await bench.read(lambda conn: list_workers(conn, bench.database.now_of(conn)))
        assert [(worker.running, worker.state) for worker in held] == [(0, "idle")]
    bench.skip(1_800)
    async with bench.working(order):
        assert await bench.trigger(order)
        await bench.eventually(lambda: _tokens(4))
    assert {(await bench.run(run_id)).label for run_id in ids} == {"parked"}
    found = await bench.client.runs.list(RunFilter(statuses=frozenset({"parked"})))
    assert len(found.runs) == 4


async def _tokens(number: int) -> bool:
    return len(TOKENS) == number


async def test_it_is_ended_by_its_token(bench: Bench) -> None:
    """completed with a result: one attempt, of the worker that had begun it, with its log and progress."""
    run_id = await bench.trigger(order)
    async with bench.working(order) as worker:
        await bench.until(run_id, is_parked)
        reply = await bench.client.queues.complete(run_id, TOKENS[0], {"parcel": 7})
        assert reply.status is Status.COMPLETED
    run = await bench.run(run_id)
    assert (run.status, run.result, run.progress.processed) == (Status.COMPLETED, {"parcel": 7}, 1)
    assert [(each.outcome, each.worker) for each in run.attempts] == [("completed", worker.name)]
    assert [entry.message for entry in await bench.logs(run_id)] == ["ordered"]
    kinds = [event.kind for event in await bench.client.runs.events(run_id)]
    assert kinds[-2:] == ["parked", "attempt_ended"]


async def test_a_failure_from_outside_is_tried_again(bench: Bench) -> None:
    """By the backoff of the job type, which the worker knew when it parked the run; the old token is no good then."""

    @handler("order", max_attempts=2, backoff=Backoff(base=100, growth=Growth.FIXED))
    async def order(ctx: Context) -> None:
        TOKENS.append(ctx.token)
        raise Park("1h")

    run_id = await bench.trigger(order)
    async with bench.working(order):
        await bench.until(run_id, is_parked)
        before = await bench.client.server_time_us()
        reply = await bench.client.queues.fail(run_id, TOKENS[0], "out of stock")
        assert reply.status is Status.PENDING
        assert reply.due_at is not None
        assert 99 < (reply.due_at - from_us(before)).total_seconds() < 105
        bench.skip(106)
        await bench.until(run_id, lambda run: is_parked(run) and run.attempt == 2)
        assert len(set(TOKENS)) == 2
        with pytest.raises(StaleLease):
            await bench.client.queues.complete(run_id, TOKENS[0])
        await bench.client.queues.complete(run_id, TOKENS[1])
    assert outcomes(await bench.run(run_id)) == ["error", "completed"]


async def test_in_time_or_never(bench: Bench) -> None:
    """Where nobody ends it until then, the attempt has timed out and the retry rule decides."""
    run_id = await bench.trigger(order, max_attempts=1)
    async with bench.working(order, lease=1.0):
        await bench.until(run_id, is_parked)
        bench.skip(3_601)
        run = await bench.ended(run_id)
    assert (run.status, run.failure_kind, run.crash_count) == (Status.FAILED, "timed_out", 0)
    assert run.error == "parked, and ended by nobody in time"
    assert outcomes(run) == ["timed_out"]
    with pytest.raises(StaleLease):
        await bench.client.queues.complete(run_id, TOKENS[0])


async def test_until_a_time(bench: Bench) -> None:
    """A time with a zone is taken as it is, by the database's clock; one without a zone fails the attempt."""
    until = datetime.now(UTC) + timedelta(hours=3)

    @handler("order", max_attempts=1)
    async def order(ctx: Context) -> None:
        raise Park(until if ctx.project else until.replace(tzinfo=None))

    run_id = await bench.trigger(order)
    async with bench.working(order):
        await bench.until(run_id, is_parked)
    rows = await bench.read(lambda conn: conn.execute(leases.select()).all())
    assert [from_us(row.lease_until) for row in rows] == [until]
    with pytest.raises(ValidationError, match="with a zone"):
        Park(until.replace(tzinfo=None))


async def test_at_most_a_year(bench: Bench) -> None:
    """366 days are kept to the second, by a duration and by a time; of more as many are left."""
    long = limits.PARK_MAX
    now = datetime.now(UTC)
    asked: list[Any] = [long, long + 1, now + timedelta(seconds=2 * long)]

    @handler("order", max_attempts=1)
    async def order(ctx: Context) -> None:
        raise Park(asked[ids.index(ctx.run_id)])

    ids = [await bench.trigger(order) for _ in asked]
    async with bench.working(order):
        for run_id in ids:
            await bench.until(run_id, is_parked)
    rows = await bench.read(lambda conn: conn.execute(leases.select()).all())
    left = [from_us(row.lease_until) - now for row in rows]
    assert all(timedelta(0) <= each - timedelta(seconds=long) < timedelta(minutes=1) for each in left), left


async def test_a_cancel_ends_it_at_once(bench: Bench) -> None:
    """No handler is there to notice: the reply says cancelled, the token is refused, and a retry begins anew."""
    run_id = await bench.trigger(order)
    async with bench.working(order):
        await bench.until(run_id, is_parked)
        reply = await bench.client.runs.cancel(run_id, reason="enough")
        assert (reply.cancelled, reply.effect) == (True, "now")
        run = await bench.run(run_id)
        assert (run.status, run.cancel_reason, outcomes(run)) == (Status.CANCELLED, "enough", ["cancelled"])
        with pytest.raises(StaleLease):
            await bench.client.queues.complete(run_id, TOKENS[0])
        await bench.client.runs.retry(run_id)
        await bench.until(run_id, is_parked)
        await bench.client.queues.complete(run_id, TOKENS[1])


async def test_a_cancel_before_it_parks(bench: Bench) -> None:
    """A handler that parks although it has been asked to stop ends cancelled: nobody would notice afterwards."""
    began, go_on = Gate(), Gate()

    @handler("order", cancel_grace=60)
    async def order(ctx: Context) -> None:
        began.open()
        await go_on.passed()
        raise Park("1h")

    run_id = await bench.trigger(order)
    async with bench.working(order):
        await began.passed()
        await bench.client.runs.cancel(run_id)
        go_on.open()
        run = await bench.ended(run_id)
    assert run.status is Status.CANCELLED


async def test_replaced_while_it_is_parked(bench: Bench) -> None:
    """A new run that replaces it under its key does not wait for a handler that is not there."""
    old = await bench.trigger(order, dedupe_key="k")
    async with bench.working(order):
        await bench.until(old, is_parked)
        new = await bench.trigger(order, dedupe_key="k", on_conflict=OnConflict.REPLACE)
        await bench.until(new, is_parked)
    assert new != old
    assert (await bench.run(old)).status is Status.CANCELLED


async def test_an_end_that_is_quicker_than_the_parking(bench: Bench) -> None:
    """It is refused as not parked yet, to be told again: the client does that itself, and nothing is lost."""
    handed, go_on = Gate(), Gate()

    @handler("order")
    async def order(ctx: Context) -> None:
        TOKENS.append(ctx.token)
        handed.open()
        await go_on.passed()
        raise Park("1h")

    run_id = await bench.trigger(order)
    async with bench.working(order):
        await handed.passed()
        with pytest.raises(NotParked, match="try again in a moment"):
            await bench.client.queues.extend(run_id, TOKENS[0])
        ending = asyncio.create_task(bench.client.queues.complete(run_id, TOKENS[0], "early"))
        go_on.open()
        assert (await ending).status is Status.COMPLETED
    assert (await bench.run(run_id)).result == "early"


async def test_the_end_of_its_worker_does_not_touch_it(bench: Bench) -> None:
    """A worker that is stopped leaves what is parked, and stores what parks while it stops."""
    parked = await bench.trigger(order)
    began = Gate()

    @handler("late", cancel_grace=60)
    async def late(ctx: Context) -> None:
        TOKENS.append(ctx.token)
        began.open()
        while not ctx.cancelled:
            await asyncio.sleep(0)
        raise Park("1h")

    other = await bench.trigger(late)
    async with bench.working(order, late, shutdown_grace=0.1):
        await bench.until(parked, is_parked)
        await began.passed()
    assert [(await bench.run(run_id)).label for run_id in (parked, other)] == ["parked", "parked"]
    # What is parked is nothing that a worker has to wait for.
    assert await bench.worker(order, late, drain=True).run() is WorkerEnd.DRAINED
    assert [(await bench.run(run_id)).label for run_id in (parked, other)] == ["parked", "parked"]
    for token, run_id in zip(TOKENS, (parked, other), strict=True):
        await bench.client.queues.complete(run_id, token)


async def test_parking_in_a_process_of_its_own(bench: Bench) -> None:
    """An isolated handler has the same token and parks the same way."""
    run_id = await bench.trigger(isolated_order)
    async with bench.working(isolated_order):
        run = await bench.until(run_id, is_parked)
        (entry,) = await bench.logs(run_id)
        token = str(entry.fields["handed"])[::-1]
        assert (await bench.client.queues.complete(run_id, token)).status is Status.COMPLETED
    assert run.attempt == 1


async def test_a_policy_may_park(bench: Bench) -> None:
    """Whatever decides what becomes of an exception may decide to park."""

    @handler("order", on_error={LookupError: Park("1h"), KeyError: Retry})
    async def order(ctx: Context) -> None:
        raise IndexError

    run_id = await bench.trigger(order)
    async with bench.working(order):
        await bench.until(run_id, is_parked)


async def test_the_test_kit_shows_it() -> None:
    """`jobdeck.testing` says that the run would be parked, for how long and by which token it would be ended."""
    result = await run_handler(order)
    assert (result.outcome, result.parked_for, result.error) == ("parked", 3_600.0, "parked by the handler")
    assert result.token == TOKENS[0]
