"""Enqueue: what was asked for is stored once, in order, and what is wrong fails alone."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from jobdeck.errors import AlreadyActive
from jobdeck.ids import new_id, show_id
from jobdeck.model import NewRun, Progress
from jobdeck.states import Status
from jobdeck.store.database import Database
from jobdeck.store.enqueue import enqueue
from jobdeck.store.schema import run_events, runs
from tests.store.deck import Deck, good, team_of
from tests.store.rival import Rival


async def test_a_run_is_stored_as_it_was_asked_for(deck: Deck) -> None:
    """Every fact of the request is in the record, beside the values a run starts with."""
    parent = await deck.enqueue()
    asked = deck.new_run(
        job_type="report.weekly",
        params='{"since":"2026-01-01","n":[1,2.5,null,"ü"]}',
        name="Weekly report",
        category="export",
        queue="slow",
        priority=2,
        trigger_type="delayed",
        triggered_by="manual:ada",
        delay=timedelta(minutes=5),
        max_attempts=7,
        timeout_s=12.5,
        parent_run_id=parent,
        notify=True,
        tags='{"env":"prod"}',
        metadata='{"k":{"v":1}}',
        debug_mode=True,
    )
    assert await deck.database.write(enqueue, asked) == asked.id
    run = await deck.show(asked.id)
    assert (run.id, run.team_id, run.team) == (asked.id, deck.scope.team_id, "acme")
    assert (run.project_id, run.project) == (deck.project.id, "main")
    assert run.params == {"since": "2026-01-01", "n": [1, 2.5, None, "ü"]}
    assert (run.tags, run.metadata) == ({"env": "prod"}, {"k": {"v": 1}})
    for name in (
        "job_type", "name", "category", "queue", "priority", "trigger_type", "triggered_by", "max_attempts",
        "timeout_s", "parent_run_id", "notify",
    ):  # fmt: skip
        assert getattr(run, name) == getattr(asked, name), name
    assert run.due_at - run.created_at == timedelta(minutes=5)
    assert (run.status, run.label, run.attempt, run.failures, run.crash_count) == (
        Status.PENDING, "scheduled", 0, 0, 0,
    )  # fmt: skip
    assert (run.progress, run.result, run.error, run.attempts) == (Progress(), None, None, ())
    assert run.started_at is run.finished_at is run.heartbeat_at is run.cancel_requested_at is None
    (row,) = await deck.rows(runs, id=asked.id)
    assert row["debug_mode"] is True


async def test_a_run_and_its_event_are_one(deck: Deck) -> None:
    """Each run has exactly one event, which says when it was enqueued and by whom."""
    await deck.enqueue_many(3, triggered_by="manual:ada")
    stored, events = await deck.rows(runs), await deck.rows(run_events)
    assert [event["run_id"] for event in events] == [row["id"] for row in stored]
    assert {(event["kind"], event["actor"], event["fence"]) for event in events} == {
        ("enqueued", "manual:ada", 0)
    }
    assert {event["at"] for event in events} == {row["created_at"] for row in stored}


async def test_a_batch_larger_than_a_transaction_keeps_its_order(deck: Deck) -> None:
    """2,500 runs take several transactions, of which two may run at the same time: ids follow the order asked for."""
    ids = await deck.enqueue_many(2_500)
    stored = {row["id"]: row["created_at"] for row in await deck.rows(runs)}
    assert list(stored) == ids == sorted(ids)
    times = list(stored.values())
    pieces = [set(times[start : start + 250]) for start in range(0, len(times), 250)]
    assert all(len(piece) == 1 for piece in pieces), "a transaction has one time"
    if deck.database.differences.name == "sqlite":
        assert times == sorted(times)


async def test_nothing_to_enqueue_is_no_transaction(deck: Deck) -> None:
    """An empty batch is an empty answer."""
    assert await deck.database.write_many(enqueue, []) == []


async def test_due_times_are_by_the_database_clock(deck: Deck) -> None:
    """Without a time a run is due at the database's now, a delay counts from there, a time is taken as it is."""
    deck.forward(86_400)
    before = await deck.now()
    at = datetime(2031, 5, 6, 7, 8, 9, 123_456, tzinfo=UTC)
    plain, delayed, fixed = await deck.enqueue(), await deck.enqueue(delay=timedelta(hours=1)), None
    fixed = await deck.enqueue(due_at=at)
    after = await deck.now()
    due = {row["id"]: row["due_at"] for row in await deck.rows(runs)}
    assert before <= due[plain] <= after
    assert before <= due[delayed] - 3_600_000_000 <= after
    assert (await deck.show(fixed)).due_at == at


async def test_a_delay_goes_before_a_time(deck: Deck) -> None:
    """Where both are given the delay decides, as the model says."""
    run_id = await deck.enqueue(delay=timedelta(seconds=5), due_at=datetime(2031, 1, 1, tzinfo=UTC))
    run = await deck.show(run_id)
    assert run.due_at - run.created_at == timedelta(seconds=5)


async def test_a_time_without_a_zone_is_refused(deck: Deck) -> None:
    """A naive datetime is no point in time: the run is not stored, the others are."""
    naive = datetime(2031, 1, 1)  # noqa: DTZ001  what is refused
    results = await asyncio.gather(
        deck.enqueue(), deck.enqueue(due_at=naive), deck.enqueue(), return_exceptions=True
    )
    assert isinstance(results[1], ValueError)
    assert [row["id"] for row in await deck.rows(runs)] == sorted([results[0], results[2]], key=str)


async def test_single_flight_refuses_the_second(deck: Deck) -> None:
    """While a run with a key is waiting or running another one is refused, naming the first."""
    first = await deck.enqueue(flight_key="k")
    with pytest.raises(AlreadyActive) as caught:
        await deck.enqueue(flight_key="k")
    assert caught.value.existing_run_id == show_id("run", first)
    (claimed,) = await deck.claim()
    with pytest.raises(AlreadyActive):
        await deck.enqueue(flight_key="k")
    await deck.finish(claimed)
    second = await deck.enqueue(flight_key="k")
    assert {row["id"] for row in await deck.rows(runs)} == {first, second}


async def test_single_flight_is_per_team_and_key(deck: Deck) -> None:
    """Another key, no key and the same key of another team do not stand in the way."""
    other = await team_of(deck.database, "other")
    await deck.enqueue(flight_key="k")
    await deck.enqueue(flight_key="l")
    await deck.enqueue_many(2)
    await other.enqueue(flight_key="k")
    assert len(await deck.rows(runs)) == 5


async def test_single_flight_inside_one_batch(deck: Deck) -> None:
    """Of two runs with one key in one batch the first is stored, and the second is told of it."""
    items = [deck.new_run(flight_key=key) for key in ("a", "a", None, "b", "a")]
    results = await deck.database.write_many(enqueue, items)
    assert [result for result in results if not isinstance(result, AlreadyActive)] == [
        items[0].id, items[2].id, items[3].id,
    ]  # fmt: skip
    refused = [result for result in results if isinstance(result, AlreadyActive)]
    assert {error.existing_run_id for error in refused} == {show_id("run", items[0].id)}
    assert len(await deck.rows(runs)) == 3


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_single_flight_holds_against_a_transaction_under_way(deck: Deck, database_url: str) -> None:
    """Two servers enqueue at the same moment: the one that comes second is told of the first, not of an index."""
    first = deck.new_run(flight_key="k")
    with Rival(database_url) as rival:
        rival.run(enqueue, first)
        waiting = asyncio.create_task(deck.enqueue(flight_key="k"))
        await rival.until_waited_for()
        rival.commit()
    with pytest.raises(AlreadyActive) as caught:
        await waiting
    assert caught.value.existing_run_id == show_id("run", first.id)


def _broken(deck: Deck, foreign: Deck) -> list[NewRun]:
    return [
        deck.new_run(priority=11),
        deck.new_run(max_attempts=0),
        deck.new_run(team_id=new_id()),
        deck.new_run(project_id=foreign.project.id),
        deck.new_run(name="a\ud800b"),
    ]


async def test_what_the_database_refuses_fails_alone(deck: Deck) -> None:
    """Runs that break a CHECK or a foreign key, or are no text, among 45 good ones: those are stored, these not.

    The good ones have their events, the bad ones leave nothing behind.
    """
    foreign = await team_of(deck.database, "foreign")
    bad = _broken(deck, foreign)
    items = [deck.new_run() for _ in range(45)]
    for place, item in zip((0, 7, 20, 33, 49), bad, strict=True):
        items.insert(place, item)
    results = await asyncio.gather(
        *(deck.database.write(enqueue, item) for item in items), return_exceptions=True
    )
    failed = {item.id for item, result in zip(items, results, strict=True) if isinstance(result, Exception)}
    assert failed == {item.id for item in bad}
    fine = sorted(item.id for item in items if item.id not in failed)
    assert [row["id"] for row in await deck.rows(runs)] == fine
    assert sorted(event["run_id"] for event in await deck.rows(run_events)) == fine


async def test_an_id_is_stored_once(deck: Deck) -> None:
    """The same id a second time fails and changes nothing: a client may look up what became of its commit."""
    item = deck.new_run(name="first")
    await deck.database.write(enqueue, item)
    with pytest.raises(Exception, match=r"(?i)unique"):
        await deck.enqueue(id=item.id, name="second")
    assert (await deck.show(item.id)).name == "first"


async def test_results_of_a_batch_stand_at_their_places(deck: Deck, database: Database) -> None:
    """Each place of the answer is the id asked for at that place, whatever transactions it took."""
    items = [deck.new_run() for _ in range(1_200)]
    results = await database.write_many(enqueue, items)
    assert [good(result) for result in results] == [item.id for item in items]


async def test_a_key_that_could_not_be_narrowed_stands_against_all_of_its_type(deck: Deck) -> None:
    """A client without the handler's package gives the widest key: it is refused by any narrow one, and refuses any."""
    first = await deck.enqueue(flight_key="p:sync:aaaa")
    with pytest.raises(AlreadyActive):
        await deck.enqueue(flight_key="p:sync:")
    other = await deck.enqueue(flight_key="p:sync_b:")
    with pytest.raises(AlreadyActive) as refused:
        await deck.enqueue(flight_key="p:sync_b:bbbb")
    assert refused.value.existing_run_id == show_id("run", other)
    assert first != await deck.enqueue(flight_key="p:sync:bbbb")
