"""Runs that wait for others: freed by the right end, ended by the wrong one, and never lost between the two."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from itertools import product
from uuid import UUID

import pytest
from sqlalchemy import Insert, Table, exists, func, insert, literal, select, true

from jobdeck.errors import Conflict, NotFound
from jobdeck.ids import new_id, show_id
from jobdeck.model import RunExtras, RunFilter, Wait
from jobdeck.states import TERMINAL, AttemptOutcome, Condition, FailureKind, Status
from jobdeck.store import drain
from jobdeck.store.claim import ClaimedRun
from jobdeck.store.enqueue import enqueue
from jobdeck.store.expiry import Expire, expire
from jobdeck.store.lists.counts import counts
from jobdeck.store.schema import run_events, run_waits, runs
from tests.store.deck import Deck, execute_statement, good, team_of


async def after(deck: Deck, *on: UUID, condition: Condition = Condition.COMPLETED, **facts: object) -> UUID:
    """A run that waits for these."""
    extras = RunExtras(after=tuple((run_id, condition) for run_id in on))
    return await deck.enqueue(extras=extras, **facts)


async def begin(deck: Deck, run_id: UUID) -> ClaimedRun:
    """Claim, where exactly this one is to be had."""
    (claimed,) = await deck.claim(50)
    assert claimed.id == run_id
    return claimed


async def test_it_begins_when_the_other_has_completed(deck: Deck) -> None:
    """Until then it is held and nobody can take it; then at once."""
    first = await deck.enqueue()
    second = await after(deck, first)
    waiting = await deck.show(second)
    assert (waiting.status, waiting.label, waiting.held_reason) == (
        Status.PENDING, "held", "waits for the end of 1 other run",
    )  # fmt: skip
    assert waiting.waits == (Wait(first, "completed", True),)
    assert [run.id for run in await deck.page(RunFilter(statuses=frozenset({"held"})))][:1] == [second]
    claimed = await begin(deck, first)
    await deck.finish(claimed)
    assert (await deck.show(second)).waits == (Wait(first, "completed", False),)
    await deck.finish(await begin(deck, second))


@pytest.mark.parametrize(("condition", "ending"), product(Condition, sorted(TERMINAL)))
async def test_every_condition_and_every_end(deck: Deck, condition: Condition, ending: Status) -> None:
    """The one that waits goes on where the end is the wanted one, else it is cancelled and says why."""
    met = {
        Condition.COMPLETED: ending is Status.COMPLETED,
        Condition.FAILED: ending in (Status.FAILED, Status.DEAD, Status.EXPIRED),
        Condition.FINISHED: True,
    }[condition]
    first = await deck.enqueue(
        max_attempts=2 if ending is Status.DEAD else 1, extras=RunExtras(ttl=timedelta(seconds=5))
    )
    second = await after(deck, first, condition=condition)
    await _bring_to(deck, first, ending)
    assert (await deck.show(first)).status is ending
    found = await deck.show(second)
    if met:
        assert (found.status, found.blocked) == (Status.PENDING, 0)
        await begin(deck, second)
    else:
        assert (found.status, found.failure_kind) == (Status.CANCELLED, FailureKind.DEPENDENCY)
        assert found.error == f"waited for {show_id('run', first)} to be {condition}; it ended as {ending}"
        assert found.finished_at is not None
        assert [event["kind"] for event in await deck.rows(run_events, run_id=second)] == [
            "enqueued", "dependency_failed",
        ]  # fmt: skip
    assert not any(row["open"] for row in await deck.rows(run_waits))


async def _bring_to(deck: Deck, run_id: UUID, status: Status) -> None:
    if status is Status.CANCELLED:
        await deck.cancel(run_id)
    elif status is Status.EXPIRED:
        deck.forward(6)
        await deck.database.write(expire, Expire("test"))
    else:
        outcome = AttemptOutcome.COMPLETED if status is Status.COMPLETED else AttemptOutcome.ERROR
        for _ in range(2 if status is Status.DEAD else 1):
            await deck.finish(await begin(deck, run_id), outcome)


async def test_it_waits_for_all(deck: Deck) -> None:
    """A run that waits for two begins when both have ended, in whatever order."""
    ids = await deck.enqueue_many(2)
    third = await after(deck, *ids)
    for claimed in reversed(await deck.claim(2)):
        assert await deck.claim(5) == []
        await deck.finish(claimed)
    await begin(deck, third)


async def test_a_chain_ends_as_a_whole(deck: Deck) -> None:
    """Where the first one fails, all that hang on it end, each with its own reason, and are counted."""
    first = await deck.enqueue(max_attempts=1)
    chain = [first]
    for _ in range(5):
        chain.append(await after(deck, chain[-1]))
    finished = await after(deck, chain[-1], condition=Condition.FINISHED)
    await deck.finish(await begin(deck, first), AttemptOutcome.ERROR)
    found = {row["id"]: row["status"] for row in await deck.rows(runs)}
    assert [found[run_id] for run_id in chain] == ["failed", *["cancelled"] * 5]
    last = await deck.show(chain[-1])
    assert last.error == f"waited for {show_id('run', chain[-2])} to be completed; it ended as cancelled"
    told = await deck.database.read(counts, deck.scope)
    assert {name: number for name, number in told.items() if number} == dict(Counter(found.values()))
    await begin(deck, finished)


async def test_a_chain_ends_however_long_it_is(deck: Deck) -> None:
    """Longer than calls can be deep: the first one can fail, and the last one ends by it."""
    first = await deck.enqueue(max_attempts=1)
    ids = [first, *(new_id() for _ in range(300))]
    chain = [
        deck.new_run(id=ids[place], extras=RunExtras(after=((ids[place - 1], Condition.COMPLETED),)))
        for place in range(1, len(ids))
    ]
    for run in chain:
        good(await deck.database.write(enqueue, run))
    await deck.finish(await begin(deck, first), AttemptOutcome.ERROR)
    assert {(await deck.show(run_id)).status for run_id in ids[1:]} == {Status.CANCELLED}


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_more_runs_wait_than_a_statement_has_room_for(deck: Deck) -> None:
    """33,000 wait for one, which can fail: the protocol takes 32,767 values at a time."""
    first = await deck.enqueue(max_attempts=1)
    begun = await begin(deck, first)
    await after(deck, first)
    await deck.database.write(execute_statement, _copies(runs, "id", 33_000))
    waits = select(runs.c.id, literal(first, runs.c.id.type), literal("completed"), true())
    new = ~exists().where(run_waits.c.run_id == runs.c.id)
    columns = ["run_id", "on_id", "condition", "open"]
    await deck.database.write(
        execute_statement, insert(run_waits).from_select(columns, waits.where(runs.c.blocked > 0, new))
    )
    assert (await deck.finish(begun, AttemptOutcome.ERROR)).status is Status.FAILED
    ended = select(runs.c.status, func.count().label("number")).group_by(runs.c.status)
    found = await deck.database.read(lambda conn: {row.status: row.number for row in conn.execute(ended)})
    assert found == {"failed": 1, "cancelled": 33_001}


def _copies(table: Table, key: str, number: int) -> Insert:
    """So many copies of the rows of runs that are blocked, under new ids."""
    names = [column.name for column in table.columns]
    values = [func.gen_random_uuid() if name == key else table.c[name] for name in names]
    series = func.generate_series(1, number).table_valued("number")
    return insert(table).from_select(
        names, select(*values).join_from(table, series, true()).where(table.c.blocked > 0)
    )


async def test_what_has_ended_already(deck: Deck) -> None:
    """Waiting for a run that has completed is no waiting; for one that failed it is refused with what helps."""
    completed = await deck.with_status(Status.COMPLETED)
    failed = await deck.with_status(Status.FAILED)
    ready = await after(deck, completed)
    assert (await deck.show(ready)).waits == (Wait(completed, "completed", False),)
    await begin(deck, ready)
    before = await deck.rows(runs)
    with pytest.raises(Conflict, match=r"has ended as failed, so it can never be completed; retry it first"):
        await after(deck, failed)
    assert await deck.rows(runs) == before


async def test_only_runs_of_the_team_can_be_waited_for(deck: Deck) -> None:
    """A foreign run and an unknown one are the same: not found; nothing is stored."""
    other = await team_of(deck.database, "other")
    foreign = await other.enqueue()
    for run_id in (foreign, new_id()):
        with pytest.raises(NotFound, match="no run run_"):
            await after(deck, run_id)
    assert [row["id"] for row in await deck.rows(runs)] == [foreign]
    assert await deck.rows(run_waits) == []


async def test_a_wrong_wait_fails_alone(deck: Deck) -> None:
    """In a batch the others are stored."""
    items = [deck.new_run(), deck.new_run(extras=RunExtras(after=((new_id(), Condition.COMPLETED),)))]
    results = await deck.database.write_many(enqueue, items)
    assert good(results[0]) == items[0].id
    assert isinstance(results[1], NotFound)


async def test_a_failed_attempt_is_no_end(deck: Deck) -> None:
    """A run that is tried again keeps the other one waiting; so does one that is given back."""
    first = await deck.enqueue(max_attempts=3)
    await after(deck, first, condition=Condition.FAILED)
    await deck.finish(await begin(deck, first), AttemptOutcome.ERROR)
    await deck.finish(await begin(deck, first), AttemptOutcome.INTERRUPTED)
    claimed = await begin(deck, first)
    deck.forward(31)
    await deck.recover()
    assert (await begin(deck, first)).fence == claimed.fence + 1


async def test_a_crash_that_ends_a_run_frees_who_waits(deck: Deck) -> None:
    """Recovery is an end like any other."""
    first = await deck.enqueue()
    second = await after(deck, first, condition=Condition.FAILED)
    for _ in range(3):
        await begin(deck, first)
        deck.forward(31)
        await deck.recover()
    assert (await deck.show(first)).status is Status.DEAD
    await begin(deck, second)


async def test_retrying_what_was_ended_by_its_dependency(deck: Deck) -> None:
    """A person may let it run all the same: it waits for nobody then."""
    first = await deck.enqueue(max_attempts=1)
    second = await after(deck, first)
    await deck.finish(await begin(deck, first), AttemptOutcome.ERROR)
    await deck.retry(second)
    await begin(deck, second)


async def test_a_drain_does_not_wait_for_what_waits(deck: Deck) -> None:
    """A worker that drains ends while a run waits for one that needs approval; not while one waits for a due one."""

    async def nothing_left() -> bool:
        now = await deck.now()
        return await deck.database.read(lambda conn: drain.nothing_left(conn, now, ("sync",), ()))

    first = await deck.enqueue(extras=RunExtras(requires_approval=True))
    await after(deck, first)
    assert await nothing_left()
    await deck.enqueue()
    assert not await nothing_left()


async def test_the_end_of_one_and_the_start_of_waiting_at_once(deck: Deck) -> None:
    """However finish and enqueue meet, no run is left waiting for one that has ended."""
    for _ in range(20):
        first = await deck.enqueue()
        claimed = await begin(deck, first)
        second, _ = await asyncio.gather(
            after(deck, first, condition=Condition.FINISHED), deck.finish(claimed)
        )
        await deck.finish(await begin(deck, second))
