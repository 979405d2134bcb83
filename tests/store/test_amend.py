"""Changing runs that have not begun, and what runs out of time before it begins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from jobdeck.errors import AlreadyActive, Conflict, NotFound
from jobdeck.ids import new_id, show_id
from jobdeck.model import RunExtras
from jobdeck.states import AttemptOutcome, Status
from jobdeck.store.amend import Amend, amend
from jobdeck.store.expiry import Expire, expire
from jobdeck.store.lists.counts import counts
from jobdeck.store.schema import run_events, runs
from tests.store.deck import Deck, team_of

TTL = RunExtras(ttl=timedelta(seconds=60))


async def test_what_can_be_changed(deck: Deck) -> None:
    """Params, queue, priority and due time are the new ones, the rest is as it was; the history names what changed."""
    run_id = await deck.enqueue(name="Mine")
    at = datetime(2030, 1, 1, tzinfo=UTC)
    item = Amend(
        deck.scope.team_id, run_id, "ada", "typo", params='{"a":1}', queue="slow", priority=1, due_at=at
    )
    assert await deck.database.write(amend, item) == run_id
    run = await deck.show(run_id)
    assert (run.params, run.queue, run.priority, run.due_at, run.name) == ({"a": 1}, "slow", 1, at, "Mine")
    event = (await deck.rows(run_events, run_id=run_id))[-1]
    assert (event["kind"], event["actor"]) == ("amended", "ada")
    assert "typo" in event["data"]
    assert "priority" in event["data"]


async def test_a_delay_counts_from_now(deck: Deck) -> None:
    """By the database's clock."""
    run_id = await deck.enqueue()
    deck.forward(100)
    item = Amend(deck.scope.team_id, run_id, "ada", None, delay=timedelta(seconds=50))
    await deck.database.write(amend, item)
    run = await deck.show(run_id)
    assert timedelta(seconds=150) <= run.due_at - run.created_at < timedelta(seconds=155)


async def test_what_has_begun_stays(deck: Deck) -> None:
    """A running or ended run is a conflict, an unknown or foreign one is not found."""
    for status in sorted(set(Status) - {Status.PENDING, Status.AWAITING_APPROVAL}):
        run_id = await deck.with_status(status)
        before = await deck.rows(runs, id=run_id)
        with pytest.raises(Conflict, match=f"is {status}"):
            await deck.database.write(amend, Amend(deck.scope.team_id, run_id, "ada", None, priority=1))
        assert await deck.rows(runs, id=run_id) == before
    foreign = await (await team_of(deck.database, "other")).enqueue()
    for run_id in (foreign, new_id()):
        with pytest.raises(NotFound):
            await deck.database.write(amend, Amend(deck.scope.team_id, run_id, "ada", None, priority=1))


async def test_new_params_may_meet_another_run(deck: Deck) -> None:
    """Under single flight a run is not changed into one that is there already; it keeps its own key."""
    first = await deck.enqueue(flight_key="p:sync:a")
    second = await deck.enqueue(flight_key="p:sync:b")
    item = Amend(deck.scope.team_id, second, "ada", None, params="{}", flight_key="p:sync:a")
    with pytest.raises(AlreadyActive) as caught:
        await deck.database.write(amend, item)
    assert caught.value.existing_run_id == show_id("run", first)
    await deck.cancel(first)
    await deck.database.write(amend, item)
    assert (await deck.rows(runs, id=second))[0]["flight_key"] == "p:sync:a"


async def test_a_run_that_did_not_begin_in_time_expires(deck: Deck) -> None:
    """It is never taken after its time, whether or not somebody has looked; then it is `expired` and says why."""
    run_id = await deck.enqueue(extras=TTL)
    late = await deck.enqueue(extras=TTL, delay=timedelta(seconds=30))
    deck.forward(61)
    assert await deck.claim(5) == []
    assert await deck.database.write(expire, Expire("test")) == 2
    run = await deck.show(run_id)
    assert (run.status, run.error) == (Status.EXPIRED, "its time to live was over before it could begin")
    assert run.finished_at is not None
    assert (await deck.show(late)).status is Status.EXPIRED
    assert [event["kind"] for event in await deck.rows(run_events, run_id=run_id)] == ["enqueued", "expired"]
    told = await deck.database.read(counts, deck.scope)
    assert {name: number for name, number in told.items() if number} == {"expired": 2}
    assert await deck.database.write(expire, Expire("test")) == 0


async def test_what_has_begun_does_not_expire(deck: Deck) -> None:
    """A time to live is about the beginning: a running run goes on, and so does one that ended or has none."""
    run_id = await deck.enqueue(extras=TTL)
    await deck.enqueue(job_type="other")
    (claimed,) = await deck.claim()
    deck.forward(29)
    assert await deck.database.write(expire, Expire("test")) == 0
    assert (await deck.finish(claimed)).status is Status.COMPLETED
    deck.forward(100)
    assert await deck.database.write(expire, Expire("test")) == 0
    assert (await deck.show(run_id)).status is Status.COMPLETED


async def test_a_retry_is_not_expired_at_once(deck: Deck) -> None:
    """An expired run that somebody retries has no time to live any more."""
    run_id = await deck.enqueue(extras=TTL)
    deck.forward(61)
    await deck.database.write(expire, Expire("test"))
    await deck.retry(run_id)
    assert await deck.database.write(expire, Expire("test")) == 0
    assert [run.id for run in await deck.claim(5)] == [run_id]


async def test_a_run_that_has_begun_once_does_not_expire(deck: Deck) -> None:
    """Its time to live was about its beginning: a failed, snoozed or crashed attempt goes on whenever that is."""
    run_id = await deck.enqueue(extras=TTL, max_attempts=3)
    (claimed,) = await deck.claim()
    await deck.finish(claimed, AttemptOutcome.ERROR, retry_in_us=0)
    deck.forward(100)
    assert await deck.database.write(expire, Expire("test")) == 0
    (claimed,) = await deck.claim()
    assert claimed.id == run_id
