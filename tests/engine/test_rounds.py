"""What a worker does for all, and what it refuses to run."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from pydantic import BaseModel

from jobdeck import Context, handler
from jobdeck.bulk import BulkKind, BulkState
from jobdeck.model import RunFilter
from jobdeck.states import Condition, Status
from jobdeck.store.approvals import Decide, approve
from tests.engine.bench import Bench


class Amount(BaseModel):
    """What somebody approves."""

    amount: int


@handler("pay", max_attempts=5)
async def pay(ctx: Context, params: Amount) -> int:
    """Say what was paid."""
    return params.amount


async def _approved(bench: Bench, amount: int) -> UUID:
    run_id = await bench.trigger(pay, {"amount": amount}, requires_approval=True)
    decision = Decide(bench.client.scope.team_id, run_id, "somebody else", None)
    await bench.database.write(approve, decision)
    return run_id


async def test_what_was_approved_is_what_runs(bench: Bench) -> None:
    """Params that somebody has put under an approval by hand are refused for good; the handler never sees them."""
    good, bad = await _approved(bench, 10), await _approved(bench, 10)
    await bench.set_run(bad, params='{"amount":1000000}')
    bare = await _approved(bench, 10)
    await bench.set_run(bare, approved_hash=None)
    async with bench.working(pay):
        done, refused = await bench.ended(good), await bench.ended(bad)
        assert (await bench.ended(bare)).failure_kind == "rejected"
    assert (done.status, done.result) == (Status.COMPLETED, 10)
    assert (refused.status, refused.failure_kind, refused.result) == (Status.FAILED, "rejected", None)
    assert "not those that were approved" in (refused.error or "")
    assert refused.failures == 1


async def test_a_worker_expires_what_ran_out_of_time(bench: Bench) -> None:
    """Also a run of a type it does not know, and with it what waits for it; what is in time runs."""
    late = await bench.trigger(pay, {"amount": 1}, ttl=timedelta(microseconds=1), requires_approval=True)
    after = await bench.trigger(pay, {"amount": 2}, after=[(late, Condition.COMPLETED)])
    in_time = await bench.trigger(pay, {"amount": 3}, ttl=timedelta(hours=1))
    async with bench.working(pay):
        assert (await bench.ended(late)).status is Status.EXPIRED
        assert (await bench.ended(after)).failure_kind == "dependency"
        assert (await bench.ended(in_time)).status is Status.COMPLETED


async def test_runs_one_after_another(bench: Bench) -> None:
    """A chain of runs, each of which waits for the one before, is worked off by a worker without polling for it."""
    ids = [await bench.trigger(pay, {"amount": 0})]
    for amount in range(1, 6):
        ids.append(await bench.trigger(pay, {"amount": amount}, after=[(ids[-1], Condition.COMPLETED)]))
    async with bench.working(pay, poll=30.0):
        assert [(await bench.ended(run_id)).result for run_id in ids] == list(range(6))


async def test_a_worker_does_bulk_operations(bench: Bench) -> None:
    """What was counted is approved in the background by whatever worker is there, and then run."""
    needs = {"requires_approval": True, "triggered_by": "manual:bob"}
    ids = [await bench.trigger(pay, {"amount": amount}, **needs) for amount in range(3)]
    plan = await bench.client.bulk.plan(BulkKind.APPROVE, RunFilter())
    bulk = await bench.client.bulk.start(plan)
    async with bench.working(pay):
        assert [(await bench.ended(run_id)).result for run_id in ids] == [0, 1, 2]
    assert (await bench.client.bulk.show(bulk.id)).state is BulkState.COMPLETED
