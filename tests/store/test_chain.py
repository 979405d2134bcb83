"""Jobs that start after others: once for each time all of them have ended as asked, in the transaction of that end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from sqlalchemy import update

from jobdeck import limits
from jobdeck.client import Client
from jobdeck.errors import Conflict, NotFound, ValidationError, VersionConflict
from jobdeck.ids import show_id
from jobdeck.model import DependsOn, Job, JobSpec, PlanAction, Run
from jobdeck.states import AttemptOutcome, Condition, Status
from jobdeck.store.claim import ClaimedRun
from jobdeck.store.expiry import Expire, expire
from jobdeck.store.finish import Finish, finish
from jobdeck.store.jobs import chain_starts
from jobdeck.store.jobs.chain_starts import start_dependants
from jobdeck.store.jobs.chains import ChangeChains, JobChange, Template, change_chains, cycle_from
from jobdeck.store.schema import job_dependencies, job_templates, run_parents, runs
from jobdeck.store.transaction import Rank, Tx, verb
from jobdeck.verdict import Ending
from tests.databases import opened
from tests.store.clients import REMOTE, client_of
from tests.store.deck import Deck, good, team_of
from tests.store.fleet import join
from tests.store.rival import Rival


@pytest.fixture
async def client(deck: Deck) -> AsyncIterator[Client]:
    """Ada's client."""
    made = client_of(deck)
    yield made
    made.close()


async def made(client: Client, *slugs: str, **facts: Any) -> list[Job]:
    return [await client.jobs.create(slug, {"type": "sync", "max_attempts": 1, **facts}) for slug in slugs]


async def started(deck: Deck, client: Client, job: Job) -> ClaimedRun:
    """A run of a job, claimed."""
    run = await client.jobs.trigger(job.id, priority=1)
    (claimed,) = await deck.claim(types=(run.job_type,))
    assert claimed.id == run.id
    return claimed


async def ended(
    deck: Deck, client: Client, job: Job, outcome: AttemptOutcome = AttemptOutcome.COMPLETED
) -> ClaimedRun:
    claimed = await started(deck, client, job)
    await deck.finish(claimed, outcome)
    return claimed


async def runs_of(deck: Deck, client: Client, job: Job) -> list[Run]:
    return [await client.runs.show(row["id"]) for row in await deck.rows(runs, job_id=job.id)]


async def told(client: Client, run: ClaimedRun) -> list[str]:
    """What the history of a run says about the jobs that depend on its own."""
    kinds = ("dependant_started", "dependant_not_started")
    return [
        f"{event.kind} {event.data.get('reason', '')}".strip()
        for event in await client.runs.events(run.id)
        if event.kind in kinds
    ]


async def test_a_job_starts_after_another_one(client: Client, deck: Deck) -> None:
    """Its run is as a trigger would have made it, says what started it, and both know each other."""
    first, second = await made(client, "first", "second", priority=2, params={"source": "crm"}, timeout="90s")
    await client.jobs.depend(second.id, first.id)
    parent = await ended(deck, client, first)
    (run,) = await runs_of(deck, client, second)
    by_hand = await client.jobs.trigger(second.id)
    assert (run.status, run.trigger_type) == (Status.PENDING, "dependency")
    assert run.triggered_by == f"dependency:{show_id('run', parent.id)}"
    for name in ("job", "job_version", "params", "priority", "timeout_s", "max_attempts", "name", "category"):
        assert getattr(run, name) == getattr(by_hand, name), name
    assert [kin.run_id for kin in run.parents] == [parent.id]
    assert [kin.job for kin in run.parents] == ["first"]
    assert [(kin.run_id, kin.job) for kin in (await deck.show(parent.id)).children] == [(run.id, "second")]
    (claimed,) = await deck.claim(1)
    assert claimed.id == run.id
    assert await told(client, parent) == ["dependant_started"]


async def test_a_fan_in_waits_for_all(client: Client, deck: Deck) -> None:
    """Not for two ends of one of them; all are its parents; and then it counts from the beginning."""
    first, second, last = await made(client, "first", "second", "last")
    for job in (first, second):
        await client.jobs.depend(last.id, job.id)
    await ended(deck, client, first)
    again = await ended(deck, client, first)
    assert await runs_of(deck, client, last) == []
    (mark, _) = (await client.jobs.show(last.id)).depends_on
    assert mark.met_run_id == again.id
    other = await ended(deck, client, second)
    (run,) = await runs_of(deck, client, last)
    assert {kin.run_id for kin in run.parents} == {again.id, other.id}
    assert run.triggered_by == f"dependency:{show_id('run', other.id)}"
    await ended(deck, client, second)
    assert len(await runs_of(deck, client, last)) == 1
    await ended(deck, client, first)
    assert len(await runs_of(deck, client, last)) == 2


@pytest.mark.parametrize(
    ("condition", "outcomes"),
    [
        (Condition.COMPLETED, {AttemptOutcome.COMPLETED}),
        (Condition.FAILED, {AttemptOutcome.ERROR}),
        (Condition.FINISHED, {AttemptOutcome.COMPLETED, AttemptOutcome.ERROR, AttemptOutcome.CANCELLED}),
    ],
)
async def test_conditions(
    client: Client, deck: Deck, condition: Condition, outcomes: set[AttemptOutcome]
) -> None:
    """Each fits some ends; what is snoozed or will be tried again has not ended."""
    first, second = await made(client, "first", "second")
    await client.jobs.depend(second.id, first.id, condition)
    claimed = await started(deck, client, first)
    await deck.finish(claimed, AttemptOutcome.SNOOZED)
    assert await runs_of(deck, client, second) == []
    (claimed,) = await deck.claim()
    await deck.finish(claimed)
    for outcome in (AttemptOutcome.ERROR, AttemptOutcome.CANCELLED):
        await ended(deck, client, first, outcome)
    assert len(await runs_of(deck, client, second)) == len(outcomes)


async def test_the_end_of_a_waiting_run_counts(client: Client, deck: Deck) -> None:
    """Cancelled before it began it has finished, and out of time it has failed."""
    first, by_finish, by_failure = await made(client, "first", "by-finish", "by-failure")
    await client.jobs.depend(by_finish.id, first.id, Condition.FINISHED)
    await client.jobs.depend(by_failure.id, first.id, Condition.FAILED)
    await client.runs.cancel((await client.jobs.trigger(first.id)).id)
    assert [len(await runs_of(deck, client, job)) for job in (by_finish, by_failure)] == [1, 0]
    await client.jobs.update(first.id, {"ttl": "1s"})
    await client.jobs.trigger(first.id)
    deck.forward(2)
    await deck.database.write(expire, Expire("test"))
    assert [len(await runs_of(deck, client, job)) for job in (by_finish, by_failure)] == [2, 1]


async def test_a_crash_counts_as_a_failure(client: Client, deck: Deck) -> None:
    """When its budget of crashes is used up, and not before."""
    first, second = await made(client, "first", "second")
    await client.jobs.depend(second.id, first.id, Condition.FAILED)
    await client.jobs.trigger(first.id)
    for crash in range(limits.CRASH_BUDGET):
        assert await runs_of(deck, client, second) == [], crash
        (claimed,) = await deck.claim()
        deck.forward(31)
        await deck.recover()
    (run,) = await runs_of(deck, client, second)
    assert [kin.run_id for kin in run.parents] == [claimed.id]


async def test_many_ends_in_one_transaction(client: Client, deck: Deck) -> None:
    """Each pair of ends is a start of its own, whichever way they come in."""
    first, second, last = await made(client, "first", "second", "last")
    for job in (first, second):
        await client.jobs.depend(last.id, job.id)
    for job in (first, second):
        for _ in range(3):
            await client.jobs.trigger(job.id)
    claimed = await deck.claim(6)
    by_turns = [claimed[index] for index in (0, 3, 1, 4, 2, 5)]
    items = [Finish(run.id, run.fence, Ending(AttemptOutcome.COMPLETED)) for run in by_turns]
    for result in await deck.database.write_many(finish, items):
        good(result)
    found = await runs_of(deck, client, last)
    assert len(found) == 3
    assert {kin.run_id for run in found for kin in run.parents} == {run.id for run in claimed}


async def test_chains_go_on(client: Client, deck: Deck) -> None:
    """A run that was started so starts the next one; a rerun of it does too."""
    first, second, third = await made(client, "first", "second", "third")
    await client.jobs.depend(second.id, first.id)
    await client.jobs.depend(third.id, second.id)
    await ended(deck, client, first)
    (claimed,) = await deck.claim()
    await deck.finish(claimed)
    assert len(await runs_of(deck, client, third)) == 1
    (claimed_third,) = await deck.claim()
    await deck.finish(claimed_third)
    again = await client.runs.rerun(claimed.id)
    (claimed,) = await deck.claim()
    assert claimed.id == again.id
    await deck.finish(claimed)
    assert len(await runs_of(deck, client, third)) == 2


async def test_no_cycle(client: Client, deck: Deck) -> None:
    """Not after itself, not around others; the way is named, and nothing of it is stored."""
    a, b, c = await made(client, "a", "b", "c")
    with pytest.raises(Conflict, match="a -> a "):
        await client.jobs.depend(a.id, a.id)
    await client.jobs.depend(b.id, a.id)
    await client.jobs.depend(c.id, b.id)
    before = await deck.rows(job_dependencies), await deck.rows(job_templates)
    with pytest.raises(Conflict, match="a -> c -> b -> a "):
        await client.jobs.depend(a.id, c.id)
    assert (await deck.rows(job_dependencies), await deck.rows(job_templates)) == before
    assert cycle_from(1, {1: [2, 3], 2: [4], 3: [4], 4: []}) is None
    assert cycle_from(1, {1: [2], 2: [3], 3: [2]}) is None


async def test_two_people_make_no_cycle_together(client: Client, deck: Deck, database_url: str) -> None:
    """Of two dependencies that would close one, made at the same moment by two processes, one is refused."""
    async with opened(database_url) as other_database:
        other = client_of(Deck(other_database, deck.scope, deck.project), actor="bob")
        for number in range(5):
            a, b = await made(client, f"a{number}", f"b{number}")
            results = await asyncio.gather(
                client.jobs.depend(a.id, b.id), other.jobs.depend(b.id, a.id), return_exceptions=True
            )
            assert [isinstance(result, Conflict) for result in results].count(True) == 1, results
        other.close()


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_the_second_of_two_parents_sees_the_first(
    client: Client, deck: Deck, database_url: str
) -> None:
    """Both end at the same moment: one waits for the other's transaction, and exactly one run is started."""
    first, second, last = await made(client, "first", "second", "last")
    for job in (first, second):
        await client.jobs.depend(last.id, job.id)
    one, two = await started(deck, client, first), await started(deck, client, second)
    with Rival(database_url) as rival:
        rival.run(finish, Finish(one.id, one.fence, Ending(AttemptOutcome.COMPLETED)))
        start_dependants(rival.tx)
        task = asyncio.create_task(deck.finish(two))
        await rival.until_waited_for()
        assert not task.done()
        rival.commit()
        await task
    (run,) = await runs_of(deck, client, last)
    assert {kin.run_id for kin in run.parents} == {one.id, two.id}


async def test_many_pairs_of_parents_end_in_two_processes(
    client: Client, deck: Deck, database_url: str
) -> None:
    """Every pair of ends, each by a worker of its own, starts exactly one run, with both as its parents."""
    first, second, last = await made(client, "first", "second", "last")
    for job in (first, second):
        await client.jobs.depend(last.id, job.id)
    async with opened(database_url) as other_database:
        other = Deck(other_database, deck.scope, deck.project)
        for _ in range(10):
            one, two = await started(deck, client, first), await started(deck, client, second)
            await asyncio.gather(deck.finish(one), other.finish(two))
    found = await runs_of(deck, client, last)
    assert len(found) == 10
    assert all(len(run.parents) == 2 for run in found)


async def test_one_transaction(client: Client, deck: Deck, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the transaction breaks off after the start, neither the end nor the run is there."""
    first, second = await made(client, "first", "second")
    await client.jobs.depend(second.id, first.id)
    claimed = await started(deck, client, first)
    with monkeypatch.context() as patched:
        patched.setattr("jobdeck.store.batch.write_counts", _broken)
        with pytest.raises(ZeroDivisionError):
            await deck.finish(claimed)
    assert (await deck.show(claimed.id)).status is Status.RUNNING
    assert await runs_of(deck, client, second) == []
    await deck.finish(claimed)
    assert len(await runs_of(deck, client, second)) == 1


@verb(Rank.CHANGE)
def _spoil(tx: Tx, items: Sequence[Job]) -> Sequence[None]:
    for job in items:
        tx.conn.execute(update(job_templates).where(job_templates.c.job_id == job.id).values(run="[1]"))
    return [None] * len(items)


def _broken(*_args: object) -> None:
    raise ZeroDivisionError("the process is killed here, as far as the database can tell")


async def test_what_cannot_be_started_loses_no_outcome(client: Client, deck: Deck) -> None:
    """A disabled job, one whose flight is taken, a spoilt template: told in the history of the parent, and the marks
    are used up, so that an old end starts nothing later."""
    (first,) = await made(client, "first")
    (second,) = await made(client, "second", type="single", params={"source": "crm"})
    await client.jobs.depend(second.id, first.id)
    await client.jobs.switch([second.id], enabled=False)
    assert "the job second is disabled" in (await told(client, await ended(deck, client, first)))[0]
    await client.jobs.switch([second.id], enabled=True)
    assert await runs_of(deck, client, second) == []
    await ended(deck, client, first)
    taken = await ended(deck, client, first)
    assert len(await runs_of(deck, client, second)) == 1
    assert "already pending or running" in (await told(client, taken))[0]
    await deck.database.write(_spoil, second)
    spoilt = await ended(deck, client, first)
    assert (await deck.show(spoilt.id)).status is Status.COMPLETED
    assert "template cannot be read" in (await told(client, spoilt))[0]
    assert [each.met_run_id for each in (await client.jobs.show(second.id)).depends_on] == [None]


async def test_the_newest_version_is_started(client: Client, deck: Deck) -> None:
    """With its params, and the job's own approval and delay; a version that lacks params is refused."""
    first, second = await made(client, "first", "second")
    await client.jobs.depend(second.id, first.id)
    await client.jobs.update(
        second.id, {"params": {"pages": 7}, "requires_approval": True, "delay": "1h", "ttl": "2h"}
    )
    await ended(deck, client, first)
    (run,) = await runs_of(deck, client, second)
    assert (run.job_version, run.params, run.status) == (2, {"pages": 7}, Status.AWAITING_APPROVAL)
    assert run.due_at > run.created_at
    assert run.expires_at is not None
    with pytest.raises(ValidationError, match="pages"):
        await client.jobs.update(second.id, {"params": {"pages": 0}})


async def test_params_must_be_whole(client: Client, deck: Deck) -> None:
    """A job whose params come with a trigger cannot start after others, and one that does cannot lose them."""
    await join(deck.database, REMOTE)
    (first,) = await made(client, "first")
    second = await client.jobs.create("second", {"type": "remote"})
    with pytest.raises(ValidationError, match=r"nobody is there to add what its params lack.*source"):
        await client.jobs.depend(second.id, first.id)
    second = await client.jobs.update(second.id, {"params": {"source": "crm"}})
    await client.jobs.depend(second.id, first.id)
    with pytest.raises(ValidationError, match="its params must be whole"):
        await client.jobs.update(second.id, {"params": None})
    await ended(deck, client, first)
    assert len(await runs_of(deck, client, second)) == 1


async def test_other_teams_jobs_are_unknown(client: Client, deck: Deck) -> None:
    """In either place, and in a file, as are archived ones."""
    theirs = await team_of(deck.database, "globex")
    other = client_of(theirs)
    (mine,), (foreign,) = await made(client, "mine"), await made(other, "foreign")
    with pytest.raises(NotFound):
        await client.jobs.depend(mine.id, foreign.id)
    with pytest.raises(NotFound):
        await client.jobs.depend(foreign.id, mine.id)
    spec = JobSpec("new", {"type": "sync"}, depends_on=(DependsOn(foreign.shown_id),))
    with pytest.raises(ValidationError, match="there is no such job"):
        await client.jobs.apply([spec])
    item = ChangeChains(deck.scope.team_id, "ada", (JobChange(foreign.id, ((mine.id, Condition.FAILED),)),))
    with pytest.raises(NotFound):
        await deck.database.write(change_chains, item)
    other.close()


async def test_undepend(client: Client, deck: Deck) -> None:
    """It starts no more; what it never depended on is not found."""
    first, second = await made(client, "first", "second")
    await client.jobs.depend(second.id, first.id)
    assert [each.job for each in (await client.jobs.show(first.id)).dependants] == ["second"]
    after = await client.jobs.undepend(second.id, first.id)
    assert after.depends_on == ()
    await ended(deck, client, first)
    assert await runs_of(deck, client, second) == []
    assert await deck.rows(job_templates) == []
    with pytest.raises(NotFound, match="does not start after"):
        await client.jobs.undepend(second.id, first.id)


async def test_archived_jobs_leave_chains(client: Client, deck: Deck) -> None:
    """Not while others start after them; with their own dependencies."""
    first, second = await made(client, "first", "second")
    await client.jobs.depend(second.id, first.id)
    with pytest.raises(Conflict, match="jobdeck jobs undepend second --on first"):
        await client.jobs.archive(first.id)
    await client.jobs.archive(second.id)
    assert await deck.rows(job_dependencies) == []
    await client.jobs.archive(first.id)


async def test_a_template_is_of_the_newest_version(client: Client, deck: Deck) -> None:
    """A dependency is refused whose run was made of a version that is not the newest one any more."""
    first, second = await made(client, "first", "second")
    change = JobChange(second.id, ((first.id, Condition.COMPLETED),), template=Template(7, "{}"))
    with pytest.raises(VersionConflict):
        await deck.database.write(change_chains, ChangeChains(deck.scope.team_id, "ada", (change,)))


async def test_at_most_a_hundred(client: Client) -> None:
    """A job starts after so many others and not after one more."""
    specs = [JobSpec(f"p{number}", {"type": "sync"}) for number in range(limits.DEPENDENCIES + 1)]
    await client.jobs.apply(specs)
    on = tuple(DependsOn(spec.slug) for spec in specs)
    last = JobSpec("last", {"type": "sync"}, depends_on=on[: limits.DEPENDENCIES])
    await client.jobs.apply([last])
    with pytest.raises(ValidationError, match="at most 100"):
        await client.jobs.apply([JobSpec("last", {"type": "sync"}, depends_on=on)])
    assert len((await client.jobs.show(await client.jobs.resolve("last"))).depends_on) == 100


async def test_files_say_what_starts_after_what(client: Client) -> None:
    """In any order, also of jobs that the same files make; a plan shows it; a cycle is refused before anything is done;
    a file that says nothing of it takes it away."""
    second = JobSpec("second", {"type": "sync"}, depends_on=(DependsOn("first", Condition.FINISHED),))
    first = JobSpec("first", {"type": "sync"})
    cycle = JobSpec("first", {"type": "sync"}, depends_on=(DependsOn("second"),))
    with pytest.raises(Conflict, match="second -> first -> second"):
        await client.jobs.apply([second, cycle])
    assert await client.jobs.list() == []
    await client.jobs.apply([second, first])
    job = await client.jobs.show(await client.jobs.resolve("second"))
    assert [(each.job, each.condition) for each in job.depends_on] == [("first", Condition.FINISHED)]
    assert {step.action for step in await client.jobs.plan([second, first])} == {PlanAction.KEEP}
    with pytest.raises(Conflict, match="first -> second -> first"):
        await client.jobs.plan([cycle])
    with pytest.raises(ValidationError, match=r"'nobody'.*no such job"):
        await client.jobs.plan([JobSpec("x", {"type": "sync"}, depends_on=(DependsOn("nobody"),))])
    (step,) = await client.jobs.apply([JobSpec("second", {"type": "sync"})])
    assert [change.field for change in step.changes] == ["depends_on"]
    after = await client.jobs.show(job.id)
    assert (after.depends_on, after.version) == ((), 1)


async def test_runs_without_dependants_ask_nothing(
    client: Client, deck: Deck, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a run that is of no job looks for no dependants; that of a run of a job looks once for all."""
    looks: list[int] = []
    real = chain_starts._dependants.all

    def look(tx: Tx, given: dict[str, Any]) -> list[Any]:
        looks.append(len(given["ids"]))
        return real(tx, given)

    monkeypatch.setattr(chain_starts._dependants, "all", look)
    await deck.finish(await deck.started())
    assert looks == []
    (job,) = await made(client, "alone")
    for _ in range(3):
        await client.jobs.trigger(job.id)
    items = [Finish(run.id, run.fence, Ending(AttemptOutcome.COMPLETED)) for run in await deck.claim(3)]
    await deck.database.write_many(finish, items)
    assert looks == [3]
    assert await deck.rows(run_parents) == []
