"""Cancel: a fact in the database. What waits ends at once, what runs is asked, what has ended is left alone."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from jobdeck.errors import NotCancellable, NotFound
from jobdeck.ids import new_id, show_id
from jobdeck.model import CancelEffect
from jobdeck.states import TERMINAL, WAITING, AttemptOutcome, Status
from jobdeck.store.changes import Cancel, cancel
from jobdeck.store.schema import attempts, leases, run_events, runs
from tests.store.deck import Deck, team_of


async def test_what_waits_ends_at_once(deck: Deck) -> None:
    """The run is cancelled, by whom, when and why is kept, and nobody claims it any more."""
    for status in sorted(WAITING):
        run_id = await deck.with_status(status)
        reply = await deck.cancel(run_id, "typo", "ada")
        assert (reply.run_id, reply.status, reply.cancelled, reply.effect) == (
            run_id, Status.CANCELLED, True, CancelEffect.NOW,
        )  # fmt: skip
        run = await deck.show(run_id)
        assert (run.status, run.label) == (Status.CANCELLED, "cancelled")
        assert (run.cancel_requested_by, run.cancel_reason) == ("ada", "typo")
        assert run.finished_at == run.cancel_requested_at is not None
        event = (await deck.rows(run_events, run_id=run_id))[-1]
        assert (event["kind"], event["actor"], json.loads(event["data"])) == (
            "cancelled", "ada", {"reason": "typo"},
        )  # fmt: skip
        assert await deck.claim() == []


async def test_what_is_due_later_ends_at_once(deck: Deck) -> None:
    """A scheduled run and one that waits for its next attempt are as easily cancelled as one that is due."""
    scheduled = await deck.enqueue(delay=timedelta(hours=1))
    claimed = await deck.started()
    await deck.finish(claimed, AttemptOutcome.ERROR, retry_in_us=3_600_000_000)
    for run_id in (scheduled, claimed.id):
        assert (await deck.cancel(run_id)).effect is CancelEffect.NOW
    assert await deck.rows(leases) == []


async def test_what_runs_is_asked(deck: Deck) -> None:
    """The run goes on as `cancelling` until its handler ends; the reply never says that it is cancelled already."""
    claimed = await deck.started()
    reply = await deck.cancel(claimed.id, "enough")
    assert (reply.status, reply.cancelled, reply.effect) == (Status.RUNNING, False, CancelEffect.REQUESTED)
    run = await deck.show(claimed.id)
    assert (run.status, run.label, run.finished_at, run.actions) == (Status.RUNNING, "cancelling", None, ())
    assert (run.cancel_requested_by, run.cancel_reason) == ("ada", "enough")
    event = (await deck.rows(run_events, run_id=claimed.id))[-1]
    assert (event["kind"], event["actor"]) == ("cancel_requested", "ada")
    await deck.finish(claimed, AttemptOutcome.CANCELLED)
    run = await deck.show(claimed.id)
    assert (run.status, run.label, run.actions) == (Status.CANCELLED, "cancelled", ("retry",))


async def test_a_handler_that_finishes_first_is_completed(deck: Deck) -> None:
    """A result that comes before the handler noticed counts; the request stays in the record."""
    claimed = await deck.started()
    await deck.cancel(claimed.id)
    await deck.finish(claimed, result="1")
    run = await deck.show(claimed.id)
    assert (run.status, run.result) == (Status.COMPLETED, 1)
    assert run.cancel_requested_at is not None


async def test_asking_twice_changes_nothing(deck: Deck) -> None:
    """The first request stays: who asked, when and why; the second is answered the same way and leaves no event."""
    claimed = await deck.started()
    first = await deck.cancel(claimed.id, "first", "ada")
    before, events = await deck.show(claimed.id), await deck.rows(run_events)
    deck.forward(5)
    assert await deck.cancel(claimed.id, "second", "bob") == first
    after = await deck.show(claimed.id)
    assert (after.cancel_requested_at, after.cancel_requested_by, after.cancel_reason, after.revision) == (
        before.cancel_requested_at, "ada", "first", before.revision,
    )  # fmt: skip
    assert await deck.rows(run_events) == events


async def test_what_has_ended_stays_ended(deck: Deck) -> None:
    """A run that has ended is refused with its status, and nothing of it changes."""
    for status in sorted(TERMINAL):
        run_id = await deck.with_status(status)
        before, events = await deck.rows(runs), await deck.rows(run_events)
        with pytest.raises(NotCancellable, match=f"already ended as {status}") as caught:
            await deck.cancel(run_id)
        assert caught.value.status == status
        assert (await deck.rows(runs), await deck.rows(run_events)) == (before, events)


async def test_a_foreign_run_looks_like_an_unknown_one(deck: Deck) -> None:
    """Both are NotFound with the same words, and the foreign run is untouched."""
    other = await team_of(deck.database, "other")
    foreign, unknown = await other.enqueue(), new_id()
    messages = []
    for run_id in (foreign, unknown):
        with pytest.raises(NotFound) as caught:
            await deck.cancel(run_id)
        messages.append(caught.value.message.replace(show_id("run", run_id), "ID"))
    assert messages[0] == messages[1]
    assert (await other.show(foreign)).cancel_requested_at is None


async def test_ten_at_once_agree(deck: Deck) -> None:
    """Of ten people who cancel one waiting run at the same moment one does it, the others learn that it has ended."""
    run_id = await deck.enqueue()
    answers = await asyncio.gather(
        *(deck.cancel(run_id, actor=f"actor{n}") for n in range(10)), return_exceptions=True
    )
    done = [answer for answer in answers if not isinstance(answer, Exception)]
    assert len(done) == 1
    assert all(isinstance(answer, NotCancellable) for answer in answers if answer is not done[0])
    assert [event["kind"] for event in await deck.rows(run_events)] == ["enqueued", "cancelled"]


async def test_a_batch_is_answered_one_by_one(deck: Deck) -> None:
    """Waiting, running, ended and unknown runs in one batch: each gets its own answer."""
    running = await deck.started()
    waiting, ended = await deck.enqueue(), await deck.with_status(Status.CANCELLED)
    ids = [waiting, new_id(), ended, running.id]
    items = [Cancel(deck.scope.team_id, run_id, "ada", None) for run_id in ids]
    results = await deck.database.write_many(cancel, items)
    assert [getattr(result, "effect", type(result)) for result in results] == [
        CancelEffect.NOW, NotFound, NotCancellable, CancelEffect.REQUESTED,
    ]  # fmt: skip


async def test_cancel_against_claim(deck: Deck) -> None:
    """Cancel and claim of the same run at the same moment: either it never starts, or it is asked to stop."""
    for _ in range(10):
        run_id = await deck.enqueue()
        claimed, reply = await asyncio.gather(deck.claim(), deck.cancel(run_id))
        run = await deck.show(run_id)
        if reply.effect is CancelEffect.NOW:
            assert (claimed, run.status) == ([], Status.CANCELLED)
        else:
            assert [got.id for got in claimed] == [run_id]
            assert run.label == "cancelling"
            assert (await deck.finish(claimed[0], AttemptOutcome.ERROR)).status is Status.CANCELLED
    assert len(await deck.rows(leases)) == 0
    assert all(row["outcome"] == "error" for row in await deck.rows(attempts))
