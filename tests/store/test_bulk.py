"""Acts on many runs: counted once, and visited exactly so, by the rules of the single acts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from jobdeck.bulk import BulkKind, BulkPlan, BulkState, Target
from jobdeck.client import Client
from jobdeck.errors import Conflict, NotFound, ValidationError
from jobdeck.ids import new_id, show_id
from jobdeck.limits import BULK_RUNS
from jobdeck.model import RunExtras, RunFilter
from jobdeck.states import AttemptOutcome, Status
from jobdeck.store.amend import Amend, amend
from jobdeck.store.bulk import steps as store
from jobdeck.store.bulk.steps import next_step, work_step
from jobdeck.store.changes import Cancel, cancel
from jobdeck.store.drain import nothing_left
from jobdeck.store.schema import bulk_steps, run_events, runs
from jobdeck.store.transaction import Rank, Tx, Verb, verb
from tests.databases import opened
from tests.store.clients import client_of
from tests.store.deck import Deck, team_of


@pytest.fixture
async def client(deck: Deck) -> AsyncIterator[Client]:
    """Ada's client."""
    made = client_of(deck)
    yield made
    made.close()


async def work_all(deck: Deck) -> int:
    """Do every step there is, as a worker does; how many."""
    done = 0
    while (step := await deck.database.read(next_step)) is not None:
        done += await deck.database.write(work_step, step)
    return done


async def status_of(deck: Deck, run_id: UUID) -> Status:
    return (await deck.show(run_id)).status


@pytest.mark.parametrize("kind", BulkKind)
async def test_only_what_the_kind_can_act_on(kind: BulkKind, deck: Deck, client: Client) -> None:
    """Of runs of every status, exactly those are counted that the single act would not refuse; and all of them end up
    done."""
    for status in (each for each in Status if each is not Status.RUNNING):
        await deck.with_status(status)
    await deck.started(priority=1)
    plan = await client.bulk.plan(kind, RunFilter())
    wanted = {BulkKind.CANCEL: 3, BulkKind.RETRY: 4, BulkKind.APPROVE: 1, BulkKind.REJECT: 1}[kind]
    assert plan.total == wanted
    bulk = await client.bulk.start(plan, reason="tidy up")
    assert (bulk.state, bulk.total, bulk.visited) == (BulkState.PENDING, wanted, 0)
    assert await work_all(deck) == 1
    bulk = await client.bulk.show(bulk.id)
    assert (bulk.state, bulk.done, bulk.skipped, bulk.failed) == (BulkState.COMPLETED, wanted, 0, 0)
    assert bulk.started_at is not None
    assert bulk.finished_at is not None
    for target in plan.targets:
        acts = [event for event in await client.runs.events(target.run_id) if event.actor == "ada"]
        assert acts[-1].data["reason"] == "tidy up"


async def test_the_filter_holds_and_labels_are_narrowed(deck: Deck, client: Client) -> None:
    """Type, queue and label restrict what is counted; a filter that leaves nothing to act on matches none."""
    await deck.enqueue_many(3, queue="slow")
    await deck.enqueue_many(2, job_type="other", queue="slow")
    await deck.enqueue()
    running = await deck.started(priority=1)
    await deck.cancel(running.id)

    async def count(kind: BulkKind, chosen: RunFilter) -> int:
        return (await client.bulk.plan(kind, chosen)).total

    assert await count(BulkKind.CANCEL, RunFilter(queue="slow")) == 5
    assert await count(BulkKind.CANCEL, RunFilter(queue="slow", job_type="sync")) == 3
    assert await count(BulkKind.CANCEL, RunFilter(statuses=frozenset({"cancelling"}))) == 1
    assert await count(BulkKind.RETRY, RunFilter(statuses=frozenset({"cancelling", "running"}))) == 0
    assert await count(BulkKind.CANCEL, RunFilter(project="nowhere")) == 0
    with pytest.raises(ValidationError, match="'soon' is not a status"):
        await client.bulk.plan(BulkKind.CANCEL, RunFilter(statuses=frozenset({"soon"})))


async def test_what_was_counted_is_visited_and_nothing_else(deck: Deck, client: Client) -> None:
    """Runs made after the count are left alone; what has ended meanwhile is skipped and told, never lost."""
    ids = await deck.enqueue_many(250)
    plan = await client.bulk.plan(BulkKind.CANCEL, RunFilter())
    assert [target.run_id for target in plan.targets] == ids
    late = await deck.enqueue()
    await deck.cancel(ids[7])
    bulk = await client.bulk.start(plan)
    assert await work_all(deck) == 5
    bulk = await client.bulk.show(bulk.id)
    assert (bulk.done, bulk.skipped, bulk.visited, bulk.total) == (249, 1, 250, 250)
    assert bulk.refused == {"not_cancellable": 1}
    (sample,) = bulk.samples
    assert (sample.run_id, sample.code) == (ids[7], "not_cancellable")
    assert "already ended as cancelled" in sample.message
    assert await status_of(deck, late) is Status.PENDING


async def test_each_step_is_done_once(deck: Deck, client: Client, database_url: str) -> None:
    """Two workers that hold the same step, and more that take any: every run is acted on once."""
    ids = await deck.enqueue_many(1_000)
    bulk = await client.bulk.start(await client.bulk.plan(BulkKind.CANCEL, RunFilter()))
    async with opened(database_url) as other:
        step = await deck.database.read(next_step)
        assert step is not None
        twice = await asyncio.gather(*(each.write(work_step, step) for each in (deck.database, other)))
        assert sorted(twice) == [False, True]
        decks = [deck, Deck(other, deck.scope, deck.project)]
        await asyncio.gather(*(work_all(each) for each in decks * 2))
    bulk = await client.bulk.show(bulk.id)
    assert (bulk.state, bulk.done, bulk.skipped) == (BulkState.COMPLETED, 1_000, 0)
    cancelled = await deck.rows(run_events, kind="cancelled")
    assert {row["run_id"] for row in cancelled} == set(ids)
    assert len(cancelled) == len(ids)


async def test_a_step_that_breaks_leaves_nothing(
    deck: Deck, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that fails in the middle of a step has changed no run, and the next one does all of them."""
    ids = await deck.enqueue_many(150)
    bulk = await client.bulk.start(await client.bulk.plan(BulkKind.CANCEL, RunFilter()))
    step = await deck.database.read(next_step)
    assert step is not None
    with monkeypatch.context() as patched:
        patched.setattr(store, "_account", _broken)
        with pytest.raises(ZeroDivisionError):
            await deck.database.write(work_step, step)
    assert {row["status"] for row in await deck.rows(runs)} == {"pending"}
    assert await work_all(deck) == 3
    assert (await client.bulk.show(bulk.id)).done == len(ids)
    assert await deck.rows(bulk_steps) == []


def _broken(*_args: object) -> None:
    raise ZeroDivisionError("the worker dies here")


async def test_one_bad_run_fails_alone(deck: Deck, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the database itself refuses is counted as failed, and does not keep the others from being done."""
    ids = await deck.enqueue_many(3)
    bulk = await client.bulk.start(await client.bulk.plan(BulkKind.CANCEL, RunFilter()))
    _, item_of = store._ACTS[BulkKind.CANCEL]
    monkeypatch.setitem(store._ACTS, BulkKind.CANCEL, (_cancel_but(ids[1]), item_of))
    assert await work_all(deck) == 1
    bulk = await client.bulk.show(bulk.id)
    assert (bulk.state, bulk.done, bulk.skipped, bulk.failed) == (BulkState.COMPLETED, 2, 0, 1)
    assert (bulk.samples[0].run_id, bulk.samples[0].message) == (
        ids[1], "the database refused it: IntegrityError",
    )  # fmt: skip


def _cancel_but(bad: UUID) -> Verb[Cancel, Any]:
    """A cancel that brings one run into a state that the guard of the table refuses."""

    @verb(Rank.CHANGE)
    def run(tx: Tx, items: Sequence[Cancel]) -> Sequence[Any]:
        if any(item.run_id == bad for item in items):
            tx.conn.execute(runs.update().where(runs.c.id == bad).values(priority=99))
        return cancel(tx, items)

    return run


async def test_own_runs_are_not_approved_by_their_asker(deck: Deck, client: Client) -> None:
    """The rules of one approval hold for each of many: one's own are skipped, and so is what was changed since."""
    needs = RunExtras(requires_approval=True)
    mine = await deck.enqueue(extras=needs, triggered_by="manual:ada")
    theirs = [await deck.enqueue(extras=needs, triggered_by="manual:bob") for _ in range(3)]
    plan = await client.bulk.plan(BulkKind.APPROVE, RunFilter())
    assert plan.total == 4
    changed = Amend(deck.scope.team_id, theirs[1], "bob", None, params='{"n":2}')
    await deck.database.write(amend, changed)
    bulk = await client.bulk.start(plan)
    await work_all(deck)
    bulk = await client.bulk.show(bulk.id)
    assert (bulk.done, bulk.skipped, bulk.refused) == (2, 2, {"conflict": 1, "forbidden": 1})
    messages = {sample.run_id: sample.message for sample in bulk.samples}
    assert "triggered by you" in messages[mine]
    assert "changed since it was listed" in messages[theirs[1]]
    assert [await status_of(deck, each) for each in (mine, *theirs)] == [
        Status.AWAITING_APPROVAL, Status.PENDING, Status.AWAITING_APPROVAL, Status.PENDING,
    ]  # fmt: skip


async def test_of_runs_under_one_key_one_is_retried(deck: Deck, client: Client) -> None:
    """Single flight holds among the runs of one step too: the first is retried, the others are told whom they met."""
    for _ in range(3):
        claimed = await deck.started(flight_key="p:sync:", max_attempts=1)
        await deck.finish(claimed, AttemptOutcome.ERROR)
    bulk = await client.bulk.start(await client.bulk.plan(BulkKind.RETRY, RunFilter()))
    await work_all(deck)
    bulk = await client.bulk.show(bulk.id)
    assert (bulk.done, bulk.skipped, bulk.refused) == (1, 2, {"already_active": 2})


async def test_stopping(deck: Deck, client: Client) -> None:
    """What was done stays done, the rest is left alone, also by a worker that has a step in its hands already."""
    await deck.enqueue_many(250)
    bulk = await client.bulk.start(await client.bulk.plan(BulkKind.CANCEL, RunFilter()))
    first = await deck.database.read(next_step)
    assert first is not None
    await deck.database.write(work_step, first)
    in_hand = await deck.database.read(next_step)
    assert in_hand is not None
    stopped = await client.bulk.stop(bulk.id)
    assert (stopped.state, stopped.done) == (BulkState.STOPPED, len(first.targets))
    assert await deck.database.write(work_step, in_hand) is False
    assert await work_all(deck) == 0
    assert len([row for row in await deck.rows(runs) if row["status"] == "pending"]) == 250 - stopped.done
    with pytest.raises(Conflict, match="already ended as stopped"):
        await client.bulk.stop(bulk.id)


async def test_another_teams_operation_does_not_exist(deck: Deck, client: Client) -> None:
    """It is neither shown, nor stopped, nor listed; and runs of another team are not touched by a list of their ids."""
    other = await team_of(deck.database, "other")
    theirs = client_of(other)
    foreign = await other.enqueue()
    await deck.enqueue()
    bulk = await client.bulk.start(await client.bulk.plan(BulkKind.CANCEL, RunFilter()))
    for act in (theirs.bulk.show, theirs.bulk.stop):
        with pytest.raises(NotFound, match="no bulk operation"):
            await act(bulk.id)
    assert await theirs.bulk.list() == []
    assert [each.id for each in await client.bulk.list()] == [bulk.id]
    forged = BulkPlan(BulkKind.CANCEL, RunFilter(), (Target(foreign, 1),))
    second = await client.bulk.start(forged)
    await work_all(deck)
    assert (await client.bulk.show(second.id)).refused == {"not_found": 1}
    assert await status_of(other, foreign) is Status.PENDING
    theirs.close()


async def test_teams_share_the_workers(deck: Deck, client: Client) -> None:
    """A large operation of one team does not keep a small one of another waiting to its end."""
    other = await team_of(deck.database, "other")
    theirs = client_of(other)
    await deck.enqueue_many(1_500)
    await other.enqueue()
    large = await client.bulk.start(await client.bulk.plan(BulkKind.CANCEL, RunFilter()))
    small = await theirs.bulk.start(await theirs.bulk.plan(BulkKind.CANCEL, RunFilter()))
    while (await theirs.bulk.show(small.id)).is_open:
        step = await deck.database.read(next_step)
        assert step is not None
        await deck.database.write(work_step, step)
    # Taken in turn by chance: that all 30 steps of the other come first has a chance of 1 in 10^9.
    assert (await client.bulk.show(large.id)).is_open
    theirs.close()


async def test_none_and_too_many(deck: Deck, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """No run is an operation that has ended; one more than the limit is refused, and names it."""
    bulk = await client.bulk.start(await client.bulk.plan(BulkKind.CANCEL, RunFilter()))
    assert (bulk.state, bulk.total) == (BulkState.COMPLETED, 0)
    await deck.enqueue_many(3)
    monkeypatch.setattr("jobdeck.limits.BULK_RUNS", 3)
    assert (await client.bulk.plan(BulkKind.CANCEL, RunFilter())).total == 3
    await deck.enqueue()
    with pytest.raises(ValidationError, match="more than 3 runs match; narrow the filter"):
        await client.bulk.plan(BulkKind.CANCEL, RunFilter())
    assert BULK_RUNS == 1_000_000


async def test_a_rejection_needs_a_reason(deck: Deck, client: Client) -> None:
    """As for one run; and ids are found by their ends."""
    await deck.enqueue(extras=RunExtras(requires_approval=True), triggered_by="manual:bob")
    plan = await client.bulk.plan(BulkKind.REJECT, RunFilter())
    with pytest.raises(ValidationError, match="needs a reason"):
        await client.bulk.start(plan)
    bulk = await client.bulk.start(plan, reason="no budget")
    assert await client.bulk.resolve(bulk.shown_id[-6:]) == bulk.id
    assert await client.bulk.resolve(bulk.shown_id) == bulk.id
    with pytest.raises(NotFound):
        await client.bulk.resolve("zzzz")
    with pytest.raises(NotFound):
        await client.bulk.show(new_id())
    await work_all(deck)
    rejected = await deck.show(plan.targets[0].run_id)
    assert (rejected.status, rejected.error) == (Status.CANCELLED, "rejected by ada: no budget")


async def test_a_draining_worker_is_not_done(deck: Deck, client: Client) -> None:
    """What an operation is about to retry is to be run: until it has ended there is something left."""
    run_id = await deck.with_status(Status.CANCELLED)

    async def is_done() -> bool:
        now = await deck.now()
        return await deck.database.read(nothing_left, now, ("sync",), ())

    assert await is_done()
    await client.bulk.start(await client.bulk.plan(BulkKind.RETRY, RunFilter()))
    assert not await is_done()
    await work_all(deck)
    assert await status_of(deck, run_id) is Status.PENDING
    await deck.cancel(run_id)
    assert await is_done()


async def test_the_filter_is_kept(deck: Deck, client: Client) -> None:
    """An operation says later what it was asked for."""
    await deck.enqueue()
    job_id = new_id()
    chosen = RunFilter(job_type="sync", text="syn", trigger_type="delayed", job_id=job_id)
    plan = await client.bulk.plan(BulkKind.CANCEL, chosen)
    bulk = await client.bulk.start(replace(plan, chosen=chosen))
    assert bulk.chosen == {
        "job_type": "sync", "text": "syn", "trigger_type": "delayed", "job_id": show_id("job", job_id),
    }  # fmt: skip
    assert show_id("bulk", bulk.id) == bulk.shown_id
