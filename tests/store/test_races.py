"""Two transactions at the same moment on PostgreSQL, where both would have been right a moment apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from jobdeck.client import Client
from jobdeck.client.errands import Errands
from jobdeck.engine.rounds import Rounds
from jobdeck.errors import AlreadyActive, Conflict, JobDisabled, NotFound
from jobdeck.model import RunExtras
from jobdeck.states import AttemptOutcome, Condition, Status
from jobdeck.store.amend import Amend, amend
from jobdeck.store.changes import Cancel, RetryRun, cancel, retry
from jobdeck.store.enqueue import enqueue
from jobdeck.store.jobs.definitions import SwitchJob, switch_jobs
from jobdeck.store.leases import report
from jobdeck.store.schema import jobs, runs
from tests.store.clients import SPECS, client_of
from tests.store.deck import Deck
from tests.store.deck import report as said
from tests.store.rival import Rival

pytestmark = pytest.mark.parametrize("database_kind", ["postgresql"])

NARROW, OTHER, WIDEST = "p:sync:a", "p:sync:b", "p:sync:"


@pytest.fixture
async def client(deck: Deck) -> AsyncIterator[Client]:
    """Ada's client."""
    made = client_of(deck)
    yield made
    made.close()


@pytest.mark.parametrize("archive", [False, True])
async def test_a_job_is_switched_off_while_it_is_triggered(
    deck: Deck, client: Client, database_url: str, archive: bool
) -> None:
    """A trigger waits for somebody who is about to disable or archive the job, and makes no run after that."""
    job = await client.jobs.create("nightly", {"type": "sync"})
    off = SwitchJob(deck.scope.team_id, job.id, "bob", enabled=False, archive=archive)
    with Rival(database_url) as rival:
        assert rival.run(switch_jobs, [off]) == 1
        triggering = asyncio.create_task(client.jobs.trigger(job.id))
        await rival.until_waited_for_or(triggering)
        rival.commit()
        with pytest.raises(NotFound if archive else JobDisabled):
            await triggering
    assert await deck.rows(runs) == []


async def test_a_job_is_triggered_while_it_is_archived(deck: Deck, client: Client, database_url: str) -> None:
    """The other way round: who archives waits for the run, and meets it; two triggers do not wait for each other."""
    job = await client.jobs.create("nightly", {"type": "sync"})
    new = await client.jobs._built(job.id, None, {}, force=False)
    with Rival(database_url) as rival:
        assert rival.run(enqueue, new) == new.id
        await client.jobs.trigger(job.id)
        archiving = asyncio.create_task(client.jobs.archive(job.id))
        await rival.until_waited_for()
        rival.commit()
        with pytest.raises(Conflict, match="runs of the job nightly are active"):
            await archiving


async def test_who_frees_a_run_waits_for_it_without_a_lease(deck: Deck, database_url: str) -> None:
    """Somebody holds the run that waits for this one: the end waits for that, and the worker's report for nobody."""
    run = await deck.started()
    waiting = await deck.enqueue(extras=RunExtras(after=((run.id, Condition.FINISHED),)))
    with Rival(database_url) as rival:
        rival.lock_run(waiting)
        ending = asyncio.create_task(deck.finish(run, AttemptOutcome.COMPLETED))
        await rival.until_waited_for()
        async with asyncio.timeout(20):
            await deck.database.write(report, said(run, "still here"))
        assert not ending.done()
        rival.commit()
        await ending
    (row,) = await deck.rows(runs, id=waiting)
    assert (row["blocked"], row["status"]) == (0, Status.PENDING)


async def test_a_schedule_fires_while_its_job_is_switched_off(
    deck: Deck, client: Client, database_url: str
) -> None:
    """Whoever fires waits for the job before it holds the schedule, as whoever switches it: neither waits in vain."""
    job = await client.jobs.create("nightly", {"type": "sync", "schedule": {"cron": "* * * * *"}})
    deck.forward(120)
    rounds = Rounds(deck.database, Errands(deck.database, "worker", SPECS.get).plan_fire)
    with Rival(database_url, offset_us=deck.database.offset_us) as rival:
        rival.wait_at_most(0.2)
        held = select(jobs.c.id).where(jobs.c.id == job.id)
        rival.tx.conn.execute(rival.tx.differences.locked(held, by=jobs.c.id)).one()
        firing = asyncio.create_task(rounds.fire())
        await rival.until_waited_for()
        off = SwitchJob(deck.scope.team_id, job.id, "bob", enabled=False)
        assert rival.run(switch_jobs, [off]) == 1
        rival.commit()
        await firing
    assert (await client.jobs.show(job.id)).next_fire_at is None
    assert await deck.rows(runs) == []


async def test_the_end_of_a_run_and_of_one_that_waits_for_it(deck: Deck, database_url: str) -> None:
    """Both lock the run that waits before its waits, so the one that comes first goes through."""
    awaited = await deck.started()
    waiting = await deck.enqueue(extras=RunExtras(after=((awaited.id, Condition.COMPLETED),)))
    with Rival(database_url) as rival:
        rival.wait_at_most(0.2)
        rival.lock_run(waiting)
        ending = asyncio.create_task(deck.finish(awaited))
        await rival.until_waited_for()
        assert rival.run(cancel, Cancel(deck.scope.team_id, waiting, "ada", None)).cancelled
        rival.commit()
        await ending
    assert (await deck.show(awaited.id)).status is Status.COMPLETED
    assert (await deck.show(waiting)).status is Status.CANCELLED


@pytest.mark.parametrize(("first", "second"), [(NARROW, WIDEST), (WIDEST, NARROW), (WIDEST, OTHER)])
async def test_the_widest_key_and_a_narrow_one(
    deck: Deck, database_url: str, first: str, second: str
) -> None:
    """No constraint holds them apart, and yet one of the two is made: the other waits, and is told whom it met."""
    with Rival(database_url) as rival:
        made = rival.run(enqueue, deck.new_run(flight_key=first))
        assert isinstance(made, UUID)
        coming = asyncio.create_task(deck.enqueue(flight_key=second))
        await rival.until_waited_for_or(coming)
        rival.commit()
        with pytest.raises(AlreadyActive):
            await coming
    assert [row["id"] for row in await deck.rows(runs)] == [made]


async def test_narrow_keys_do_not_wait_for_each_other(deck: Deck, database_url: str) -> None:
    """Keys that have nothing to do with each other are taken side by side, and so are those of other types."""
    with Rival(database_url) as rival:
        rival.run(enqueue, deck.new_run(flight_key=NARROW))
        await deck.enqueue(flight_key=OTHER)
        await deck.enqueue(flight_key="p:other:")
        rival.commit()
    assert len(await deck.rows(runs)) == 3


@pytest.mark.parametrize("act", ["retry", "amend"])
async def test_a_key_that_comes_back(deck: Deck, database_url: str, act: str) -> None:
    """A retry and a change of params take their keys by the same rule as new runs."""
    run = await deck.started(flight_key=NARROW, max_attempts=1)
    await deck.finish(run, AttemptOutcome.ERROR)
    team = deck.scope.team_id
    if act == "retry":
        verb: Any = retry
        item: Any = RetryRun(team, run.id, "ada", None)
    else:
        waiting = await deck.enqueue(delay=timedelta(hours=1))
        verb, item = amend, Amend(team, waiting, "ada", None, params="{}", flight_key=NARROW)
    with Rival(database_url) as rival:
        assert isinstance(rival.run(enqueue, deck.new_run(flight_key=WIDEST)), UUID)
        coming = asyncio.create_task(deck.database.write(verb, item))
        await rival.until_waited_for_or(coming)
        rival.commit()
        with pytest.raises(AlreadyActive):
            await coming
