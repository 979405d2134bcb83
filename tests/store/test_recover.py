"""Recover: runs of workers that stopped beating are taken over, each once, and only those."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import update

from jobdeck.model import Progress
from jobdeck.states import FailureKind, Status
from jobdeck.store.finish import Recover, recover
from jobdeck.store.leases import Beat, beat
from jobdeck.store.leases import report as store_report
from jobdeck.store.schema import attempts, leases, run_events
from tests.databases import opened
from tests.store.deck import WORKER, Deck, report
from tests.store.rival import Rival


async def test_only_expired_leases_are_recovered(deck: Deck) -> None:
    """A run is taken over when its own lease has ended, to the microsecond, and not when another one's has."""
    await deck.enqueue_many(2)
    (short,) = await deck.claim(lease=10)
    (long,) = await deck.claim(lease=100)
    deck.forward(9)
    assert await deck.recover() == []
    deck.database.offset_us += short.lease_until - await deck.now()
    (ended,) = await deck.recover()
    assert (ended.run_id, ended.fence, ended.status) == (short.id, short.fence, Status.PENDING)
    assert (await deck.show(long.id)).status is Status.RUNNING
    assert await deck.recover() == []


async def test_leases_that_had_no_time_to_be_extended_are_left_alone(deck: Deck) -> None:
    """After a jump of the clock each lease waits for as long as it lasts, by time that nobody can set."""
    await deck.enqueue_many(2)
    (short,) = await deck.claim(lease=10)
    (long,) = await deck.claim(lease=100)
    before = await deck.now()
    deck.forward(7_200)
    assert await deck.database.write(recover, Recover("a", expired_by=before)) == []
    taken = []
    for steady in (0, 9_999_999, 10_000_000, 99_999_999, 100_000_000):
        ended = await deck.database.write(recover, Recover("a", await deck.now(), steady))
        taken.append([each.run_id for each in ended])
    assert taken == [[], [], [short.id], [], [long.id]]


async def test_a_crash_counts_apart_from_failures(deck: Deck) -> None:
    """With one attempt allowed a run survives two crashes; it is due at once, its progress and its words are kept."""
    run_id = await deck.enqueue(max_attempts=1)
    (claimed,) = await deck.claim()
    await deck.database.write(store_report, report(claimed, progress=Progress(7, 9, 1, 2, "page 7")))
    deck.forward(31)
    await deck.recover("host:9")
    run = await deck.show(run_id)
    assert (run.status, run.label, run.failures, run.crash_count) == (Status.PENDING, "held", 0, 1)
    assert run.progress == Progress(7, 9, 1, 2, "page 7")
    assert run.failure_kind is None
    assert run.error is not None
    assert "host:1 stopped reporting 31 s ago" in run.error
    assert "page 7" in run.error
    (attempt,) = run.attempts
    assert (attempt.outcome, attempt.worker, attempt.worker_id) == ("crashed", "host:1", WORKER)
    event = (await deck.rows(run_events, run_id=run_id))[-1]
    assert (event["kind"], event["actor"]) == ("attempt_ended", "host:9")
    assert len(await deck.claim()) == 1


async def test_the_third_crash_is_the_last(deck: Deck) -> None:
    """At three crashes the run is dead, with the last words in its record and every attempt in its history."""
    run_id = await deck.enqueue(max_attempts=10)
    for _ in range(3):
        assert len(await deck.claim()) == 1
        deck.forward(31)
        assert len(await deck.recover()) == 1
    run = await deck.show(run_id)
    assert (run.status, run.failure_kind, run.crash_count, run.failures) == (
        Status.DEAD, FailureKind.CRASHED, 3, 0,
    )  # fmt: skip
    assert [attempt.outcome for attempt in run.attempts] == ["crashed"] * 3
    assert run.error is not None
    assert run.error.startswith("worker host:1 stopped reporting")
    assert await deck.claim() == []


async def test_a_cancel_is_honoured_where_the_worker_died(deck: Deck) -> None:
    """A crash with a cancel requested ends the run as cancelled instead of trying it again."""
    claimed = await deck.started()
    await deck.cancel(claimed.id, reason="enough")
    deck.forward(31)
    (ended,) = await deck.recover()
    run = await deck.show(claimed.id)
    assert ended.status is run.status is Status.CANCELLED
    assert (run.cancel_reason, run.attempts[0].outcome) == ("enough", "crashed")


async def test_a_beat_keeps_the_run(deck: Deck) -> None:
    """A worker that beats in time is never recovered, however long it runs."""
    claimed = await deck.started()
    for _ in range(5):
        deck.forward(20)
        held = await deck.database.write(beat, Beat(WORKER, (claimed.id,), 30_000_000, False, 1, 0, "live"))
        assert len(held) == 1
        assert await deck.recover() == []
    assert (await deck.show(claimed.id)).attempt == 1


async def test_two_recoverers_at_once_take_each_run_once(deck: Deck, database_url: str) -> None:
    """Two processes that look at the same moment share the expired runs: one crash is counted for each."""
    ids = await deck.enqueue_many(60)
    assert len(await deck.claim(60)) == 60
    async with opened(database_url) as other:
        deck.forward(31)
        other.offset_us = deck.database.offset_us
        second = Deck(other, deck.scope, deck.project)
        answers = await asyncio.gather(*(each.recover() for each in (deck, second, deck, second)))
    ended = [item.run_id for answer in answers for item in answer]
    ended += [item.run_id for item in await deck.recover()]
    assert sorted(ended) == sorted(ids)
    assert len(await deck.rows(attempts)) == 60
    assert {(await deck.show(run_id)).crash_count for run_id in ids[::20]} == {1}


async def test_recovery_goes_in_bounded_steps(deck: Deck) -> None:
    """More expired runs than one transaction should hold are taken in several looks."""
    await deck.enqueue_many(501)
    assert len(await deck.claim(501)) == 501
    deck.forward(31)
    assert [len(await deck.recover()) for _ in range(3)] == [500, 1, 0]


async def test_two_looks_in_one_transaction(deck: Deck) -> None:
    """Two looks that are committed together find each run once."""
    await deck.started()
    deck.forward(31)
    results = await deck.database.write_many(recover, [Recover("a"), Recover("b")])
    assert [len(result) for result in results if isinstance(result, list)] == [1, 0]


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_a_beat_under_way_keeps_the_run(deck: Deck, database_url: str) -> None:
    """A lease that is being extended in an open transaction is not recovered under its worker's hands."""
    claimed = await deck.started()
    deck.forward(31)
    with Rival(database_url) as rival:
        extended = update(leases).values(lease_until=claimed.lease_until + 60_000_000)
        rival.tx.conn.execute(extended)
        recovering = asyncio.create_task(deck.recover())
        await rival.until_waited_for_or(recovering)
        rival.commit()
    assert await recovering == []
    assert (await deck.show(claimed.id)).status is Status.RUNNING
