"""Claim: who gets which run, in which order, and what a worker is told about it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import pytest

from jobdeck.ids import new_id
from jobdeck.model import RunExtras
from jobdeck.states import AttemptOutcome, Status
from jobdeck.store.claim import Claim, claim
from jobdeck.store.leases import SaveCheckpoint, save_checkpoint
from jobdeck.store.rare_facts import COMMON, RareFacts, rare_facts
from jobdeck.store.schema import leases, runs
from jobdeck.store.transaction import Tx
from tests.databases import opened
from tests.store.deck import LEASE, WORKER, Deck, report, team_of
from tests.store.rival import Rival


async def test_what_only_some_runs_have_is_read_for_them_alone(
    deck: Deck, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain run costs no further statement; one with a backoff of its own brings it along."""
    asked: list[UUID] = []

    def told(tx: Tx, ids: Sequence[UUID]) -> dict[UUID, RareFacts]:
        asked.extend(ids)
        return rare_facts(tx, ids)

    monkeypatch.setattr("jobdeck.store.claim.rare_facts", told)
    await deck.enqueue()
    own = await deck.enqueue(extras=RunExtras(backoff='{"base": 7}'))
    found = {run.id: run.rare for run in await deck.claim(5)}
    assert asked == [own]
    assert found.pop(own).backoff == '{"base": 7}'
    assert list(found.values()) == [COMMON]


async def test_a_claimed_run_brings_what_a_worker_needs(deck: Deck) -> None:
    """The answer has the facts of the run, its team and project by slug, and the end of the lease by the database."""
    run_id = await deck.enqueue(
        params='{"a":1}', queue="slow", max_attempts=4, timeout_s=9.5, debug_mode=True, job_type="mail"
    )
    before = await deck.now()
    (got,) = await deck.claim(types=("mail",))
    after = await deck.now()
    assert (got.id, got.fence, got.attempt) == (run_id, 1, 1)
    assert (got.team_id, got.team) == (deck.scope.team_id, "acme")
    assert (got.project_id, got.project) == (deck.project.id, "main")
    assert (got.job_type, got.queue, got.params) == ("mail", "slow", '{"a":1}')
    assert (got.max_attempts, got.failures, got.crash_count, got.timeout_s) == (4, 0, 0, 9.5)
    assert got.debug_mode is True
    assert got.resume is None
    assert before <= got.lease_until - int(LEASE * 1e6) <= after


async def test_a_run_outside_projects_is_claimed(deck: Deck) -> None:
    """No project is None, not an error."""
    await deck.enqueue(project_id=None)
    (got,) = await deck.claim()
    assert (got.project_id, got.project) == (None, None)


async def test_a_claim_makes_the_run_running_under_one_lease(deck: Deck) -> None:
    """The record says running and since when; the lease names worker and fence."""
    run_id = await deck.enqueue()
    (got,) = await deck.claim()
    run = await deck.show(run_id)
    assert (run.status, run.label, run.attempt, run.worker_id) == (Status.RUNNING, "running", 1, WORKER)
    assert run.started_at == run.heartbeat_at
    (lease,) = await deck.rows(leases)
    assert (lease["run_id"], lease["fence"], lease["worker"]) == (run_id, got.fence, "host:1")
    assert lease["lease_until"] == got.lease_until


async def test_no_more_than_the_limit(deck: Deck) -> None:
    """A claim takes at most its limit, and nothing at a limit below one."""
    await deck.enqueue_many(5)
    assert await deck.claim(0) == await deck.claim(-1) == []
    assert [len(await deck.claim(3)) for _ in range(3)] == [3, 2, 0]


async def test_nothing_is_taken_twice(deck: Deck) -> None:
    """A running run is not claimable."""
    await deck.enqueue()
    assert len(await deck.claim(5)) == 1
    assert await deck.claim(5) == []


async def test_priority_then_due_time_then_id(deck: Deck) -> None:
    """Inside a team the lower priority number comes first, then what was due earlier, then the older id."""
    late = await deck.enqueue(priority=5, delay=timedelta(seconds=20))
    early = await deck.enqueue(priority=5, delay=timedelta(seconds=10))
    urgent = await deck.enqueue(priority=1, delay=timedelta(seconds=25))
    ties = await deck.enqueue_many(3, priority=7, delay=timedelta(seconds=5))
    idle = await deck.enqueue(priority=10, delay=timedelta(seconds=1))
    deck.forward(60)
    wanted = [urgent, early, late, *ties, idle]
    assert [run.id for run in await deck.claim(4)] == wanted[:4]
    assert [run.id for run in await deck.claim(4)] == wanted[4:]


async def test_what_is_due_later_waits(deck: Deck) -> None:
    """A run is taken from its due time on, by the database's clock."""
    run_id = await deck.enqueue(delay=timedelta(minutes=10))
    assert await deck.claim() == []
    deck.forward(590)
    assert await deck.claim() == []
    deck.forward(10)
    assert [run.id for run in await deck.claim()] == [run_id]


async def test_a_lane_whose_first_run_is_not_due_hides_no_other(deck: Deck) -> None:
    """What is due in another queue, type or priority is found behind a lane that only has later runs."""
    await deck.enqueue(priority=1, delay=timedelta(hours=1))
    await deck.enqueue(queue="aaa", delay=timedelta(hours=1))
    due = await deck.enqueue(priority=9)
    assert [run.id for run in await deck.claim(5)] == [due]


async def test_only_the_queues_that_were_asked_for(deck: Deck) -> None:
    """Named queues are served and no others; no name means every queue."""
    fast, slow, default = [await deck.enqueue(queue=name) for name in ("fast", "slow", "default")]
    assert [run.id for run in await deck.claim(5, queues=("slow",))] == [slow]
    assert await deck.claim(5, queues=("nothing",)) == []
    assert {run.id for run in await deck.claim(5)} == {fast, default}


async def test_unknown_types_are_passed_over(deck: Deck) -> None:
    """Runs of types that the worker does not know stay pending, however many stand in front."""
    strangers = await deck.enqueue_many(50, job_type="stranger", priority=1)
    mine = await deck.enqueue(priority=10)
    assert [run.id for run in await deck.claim(5)] == [mine]
    assert await deck.claim(5, types=()) == []
    assert {row["id"] for row in await deck.rows(runs, status="pending")} == set(strangers)


async def test_what_waited_beyond_its_time_is_not_taken(deck: Deck) -> None:
    """A run whose time to live has passed is left alone, and does not keep a later one of its lane from being taken."""
    expired = await deck.enqueue()
    await deck.set_run(expired, expires_at=await deck.now() + 5_000_000)
    alive = await deck.enqueue()
    await deck.set_run(alive, expires_at=await deck.now() + 60_000_000)
    deck.forward(10)
    assert [run.id for run in await deck.claim(5)] == [alive]
    assert (await deck.show(expired)).status is Status.PENDING


async def test_teams_take_turns(deck: Deck) -> None:
    """A team with one run is not kept waiting by one with a thousand, whatever the priorities."""
    small = await team_of(deck.database, "small")
    crowd = await deck.enqueue_many(1_000, priority=1)
    only = await small.enqueue(priority=10)
    first = [run.id for run in await deck.claim(2)]
    assert sorted(first) == sorted([crowd[0], only])
    assert [run.id for run in await deck.claim(3)] == crowd[1:4]


async def test_three_teams_share_a_claim_evenly(deck: Deck) -> None:
    """Of six slots each of three teams with enough runs gets two."""
    decks = [deck, await team_of(deck.database, "beta"), await team_of(deck.database, "gamma")]
    for each in decks:
        await each.enqueue_many(10)
    got = [run.team for run in await deck.claim(6)]
    assert {team: got.count(team) for team in set(got)} == {"acme": 2, "beta": 2, "gamma": 2}


async def test_every_claim_has_a_new_fence(deck: Deck) -> None:
    """Fence and attempt grow with each claim of a run and survive a retry by hand, which lets it start anew.

    started_at is the first start since the run was made or retried.
    """
    run_id = await deck.enqueue(max_attempts=2)
    seen, starts = [], []
    for round_ in range(4):
        (got,) = await deck.claim()
        seen.append((got.fence, got.attempt, got.failures))
        starts.append((await deck.show(run_id)).started_at)
        deck.forward(1)
        await deck.finish(got, AttemptOutcome.ERROR)
        if round_ == 1:
            await deck.retry(run_id)
    assert seen == [(1, 1, 0), (2, 2, 1), (3, 3, 0), (4, 4, 1)]
    assert starts[0] == starts[1] != starts[2] == starts[3]


async def test_a_later_attempt_resumes(deck: Deck) -> None:
    """The last checkpoint of an earlier attempt comes with the next claim; a run without one brings None."""
    got = await deck.started()
    for state in ('{"page":1}', '{"page":2}'):
        await deck.database.write(save_checkpoint, SaveCheckpoint(got.id, got.fence, state))
    await deck.finish(got, AttemptOutcome.ERROR, last_report=report(got, "one", "two"))
    await deck.enqueue()
    again, fresh = await deck.claim(2)
    assert (again.id, again.resume, again.log_bytes) == (got.id, '{"page":2}', 200)
    assert (fresh.resume, fresh.log_bytes) == (None, 0)


async def test_several_workers_at_once_get_disjoint_runs(deck: Deck) -> None:
    """Eight workers who ask at the same moment never share a run, and together get all of them."""
    ids = await deck.enqueue_many(40)
    workers = [new_id() for _ in range(8)]
    taken: dict[object, object] = {}
    while len(taken) < len(ids):
        answers = await asyncio.gather(*(deck.claim(5, worker=worker) for worker in workers))
        assert any(answers)
        for worker, answer in zip(workers, answers, strict=True):
            for run in answer:
                assert run.id not in taken
                taken[run.id] = worker
    stored = {row["run_id"]: row["worker_id"] for row in await deck.rows(leases)}
    assert stored == taken
    assert set(stored) == set(ids)


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_a_run_locked_by_another_claim_is_passed_over(deck: Deck, database_url: str) -> None:
    """While one claim is not committed yet, another one neither waits for it nor takes what it has taken."""
    ids = await deck.enqueue_many(4)
    with Rival(database_url) as rival:
        taken = rival.run(claim, Claim(new_id(), "rival:1", 2, 30_000_000, ("sync",)))
        claiming = asyncio.create_task(deck.claim(4))
        await rival.until_waited_for_or(claiming)
        waited = not claiming.done()
        rival.commit()
    mine = await claiming
    assert not waited
    assert [run.id for run in taken] == ids[:2]
    assert {run.id for run in mine} <= set(ids[2:])
    assert {run.id for run in mine} | {run.id for run in await deck.claim(4)} == set(ids[2:])


async def test_claims_of_one_transaction_see_each_other(deck: Deck) -> None:
    """Two workers of one process whose claims are committed together get different runs."""
    ids = await deck.enqueue_many(4)
    items = [Claim(new_id(), f"host:{n}", 2, 30_000_000, ("sync",)) for n in range(3)]
    answers = await deck.database.write_many(claim, items)
    got = [run.id for answer in answers if isinstance(answer, list) for run in answer]
    rest = [run.id for run in await deck.claim(4)]
    assert sorted([*got, *rest]) == ids


async def test_two_processes_claim_through_their_own_connections(deck: Deck, database_url: str) -> None:
    """What one database object has claimed is gone for another one on the same database."""
    ids = await deck.enqueue_many(4)
    async with opened(database_url) as other:
        second = Deck(other, deck.scope, deck.project)
        first = await deck.claim(2)
        rest = await second.claim(4, worker=new_id())
    assert [run.id for run in first + rest] == ids
