"""Retry by hand: the same run goes back to pending with a new epoch of failures and its history kept."""

from __future__ import annotations

import asyncio

import pytest

from jobdeck.errors import AlreadyActive, Conflict, NotFound
from jobdeck.ids import new_id, show_id
from jobdeck.model import Progress
from jobdeck.states import RETRYABLE, AttemptOutcome, Status
from jobdeck.store import changes
from jobdeck.store.enqueue import enqueue
from jobdeck.store.schema import run_events, runs
from tests.store.deck import Deck, report, team_of
from tests.store.rival import Rival


async def test_a_new_epoch_with_the_history_kept(deck: Deck) -> None:
    """Failures, start, end, error, progress and cancel request are cleared; attempts and fence stay."""
    run_id = await deck.enqueue(max_attempts=2)
    for _ in range(2):
        (claimed,) = await deck.claim()
        await deck.cancel(run_id) if claimed.attempt == 2 else None
        seen = report(claimed, progress=Progress(5, 9, 1, 2, "page 5"))
        await deck.finish(claimed, AttemptOutcome.ERROR, error="no", traceback="line 1", last_report=seen)
    before = await deck.show(run_id)
    assert before.status is Status.CANCELLED
    deck.forward(60)
    assert await deck.retry(run_id, "again", "bob") == run_id
    run = await deck.show(run_id)
    assert (run.status, run.failures, run.crash_count, run.attempt) == (Status.PENDING, 0, 0, 2)
    cleared = ["error", "traceback", "result", "failure_kind", "started_at", "finished_at"]
    cleared += ["cancel_requested_at", "cancel_requested_by", "cancel_reason"]
    assert [getattr(run, name) for name in cleared] == [None] * len(cleared)
    assert run.progress == Progress()
    assert (run.created_at, run.attempts) == (before.created_at, before.attempts)
    assert run.due_at > before.due_at
    assert run.revision > before.revision
    event = (await deck.rows(run_events, run_id=run_id))[-1]
    assert (event["kind"], event["actor"], event["data"]) == ("retried", "bob", '{"reason": "again"}')
    (again,) = await deck.claim()
    assert (again.fence, again.attempt, again.failures) == (3, 3, 0)


async def test_what_ended_without_completing_can_be_tried_again(deck: Deck) -> None:
    """Failed, dead, cancelled and expired runs are claimed again at once, also where their time to live is over."""
    for status in sorted(RETRYABLE):
        run_id = await deck.with_status(status)
        await deck.set_run(run_id, expires_at=1)
        await deck.retry(run_id)
        assert [run.id for run in await deck.claim()] == [run_id]


async def test_what_is_active_or_completed_is_refused(deck: Deck) -> None:
    """A waiting, running or completed run is a conflict that names its status; nothing of it changes."""
    for status in (Status.COMPLETED, Status.RUNNING, Status.AWAITING_APPROVAL, Status.PENDING):
        run_id = await deck.with_status(status)
        before, events = await deck.rows(runs), await deck.rows(run_events)
        with pytest.raises(Conflict, match=f"is {status}; only cancelled, dead, expired, failed"):
            await deck.retry(run_id)
        assert (await deck.rows(runs), await deck.rows(run_events)) == (before, events)


async def test_a_foreign_run_looks_like_an_unknown_one(deck: Deck) -> None:
    """Both are NotFound with the same words, and the foreign run is untouched."""
    other = await team_of(deck.database, "other")
    foreign, unknown = await other.with_status(Status.CANCELLED), new_id()
    messages = []
    for run_id in (foreign, unknown):
        with pytest.raises(NotFound) as caught:
            await deck.retry(run_id)
        messages.append(caught.value.message.replace(show_id("run", run_id), "ID"))
    assert messages[0] == messages[1]
    assert (await other.show(foreign)).status is Status.CANCELLED


async def test_single_flight_holds_for_a_retry(deck: Deck) -> None:
    """While another run with the same key is active the old one stays as it is, and the active one is named."""
    old = await deck.started(flight_key="k", max_attempts=1)
    await deck.finish(old, AttemptOutcome.ERROR)
    active = await deck.enqueue(flight_key="k")
    with pytest.raises(AlreadyActive) as caught:
        await deck.retry(old.id)
    assert caught.value.existing_run_id == show_id("run", active)
    assert (await deck.show(old.id)).status is Status.FAILED
    await deck.cancel(active)
    await deck.retry(old.id)
    with pytest.raises(AlreadyActive):
        await deck.enqueue(flight_key="k")


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_single_flight_holds_against_a_transaction_under_way(deck: Deck, database_url: str) -> None:
    """A run with the same key is enqueued elsewhere at the same moment: the retry is told of it."""
    old = await deck.started(flight_key="k", max_attempts=1)
    await deck.finish(old, AttemptOutcome.ERROR)
    with Rival(database_url) as rival:
        rival.run(enqueue, deck.new_run(flight_key="k"))
        waiting = asyncio.create_task(deck.retry(old.id))
        await rival.until_waited_for()
        rival.commit()
    with pytest.raises(AlreadyActive):
        await waiting


async def test_ten_at_once_retry_once(deck: Deck) -> None:
    """Of ten people who retry one run at the same moment one does it, the others learn that it is pending."""
    run_id = await deck.with_status(Status.FAILED)
    answers = await asyncio.gather(*(deck.retry(run_id) for _ in range(10)), return_exceptions=True)
    assert sum(answer == run_id for answer in answers) == 1
    assert sum(isinstance(answer, Conflict) for answer in answers) == 9
    kinds = [event["kind"] for event in await deck.rows(run_events)]
    assert kinds.count("retried") == 1


async def test_a_batch_is_answered_one_by_one(deck: Deck) -> None:
    """Two runs with one key in one batch: the first goes back, the second is told of the first."""
    ids = []
    for _ in range(2):
        ids.append(await deck.enqueue(flight_key="k"))
        await deck.cancel(ids[-1])
    items = [changes.RetryRun(deck.scope.team_id, run_id, "ada", None) for run_id in (*ids, new_id())]
    results = await deck.database.write_many(changes.retry, items)
    assert [type(result) for result in results[1:]] == [AlreadyActive, NotFound]
    assert results[0] == ids[0]
