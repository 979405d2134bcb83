"""Pauses and limits: nothing that is held back begins, everything else goes on, and `why` says what a claim sees."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, update

from jobdeck.client import Client
from jobdeck.clock import from_us
from jobdeck.errors import Conflict, NotFound, ValidationError
from jobdeck.ids import show_id
from jobdeck.model import RunExtras, RunFilter
from jobdeck.states import AttemptOutcome, Label, PauseKind
from jobdeck.store.claim import ClaimedRun
from jobdeck.store.control.turns import CallWaiting, call_waiting
from jobdeck.store.drain import nothing_left
from jobdeck.store.schema import gates, pauses, rate_uses, runs
from tests.store.clients import client_of
from tests.store.deck import Deck, execute_statement, team_of
from tests.store.fleet import join

SYNC: dict[str, Any] = {"type": "sync", "params": {"source": "crm"}}


@pytest.fixture
async def client(deck: Deck) -> AsyncIterator[Client]:
    """Ada's client, and a worker that takes all."""
    await join(deck.database)
    made = client_of(deck)
    yield made
    made.close()


async def triggered(client: Client, slug: str, number: int, **facts: Any) -> list[UUID]:
    job = await client.jobs.create(slug, SYNC | facts)
    return [(await client.jobs.trigger(job.id)).id for _ in range(number)]


def keyed(key: str) -> RunExtras:
    return RunExtras(concurrency_key=key)


async def ids(deck: Deck, limit: int = 50) -> list[UUID]:
    return [run.id for run in await deck.claim(limit)]


async def reasons(client: Client, run_id: UUID) -> list[tuple[str, str]]:
    return [(reason.kind, reason.text) for reason in await client.runs.why(run_id)]


# -- pauses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name"), [("all", ""), ("team", ""), ("queue", "slow"), ("type", "sync"), ("job", "nightly")]
)
async def test_what_is_paused_waits(client: Client, deck: Deck, kind: str, name: str) -> None:
    """Nothing of it is taken until it is resumed, and then all of it; the run says by whom it is paused, and why."""
    (run_id,) = await triggered(client, "nightly", 1, queue="slow")
    made = await client.pauses.pause(kind, name, reason="deploy")
    assert (made.kind, made.actor, made.reason, made.until) == (PauseKind(kind), "ada", "deploy", None)
    assert await client.pauses.list() == [made]
    assert await ids(deck) == []
    run = await client.runs.show(run_id)
    assert run.label is Label.HELD
    assert run.held_reason is not None
    assert "is paused by ada" in run.held_reason
    assert [found.id for found in (await client.runs.list(RunFilter(statuses=frozenset({"held"})))).runs] == [
        run_id
    ]
    ((found, words), *_) = await reasons(client, run_id)
    assert found == "paused"
    assert words.endswith("is paused by ada: deploy")
    resume = (await client.runs.why(run_id))[0].command
    assert resume is not None
    await client.pauses.resume(*resume.partition(" resume ")[2].split())
    assert await client.pauses.list() == []
    assert await ids(deck) == [run_id]


async def test_a_pause_holds_nothing_else_back(client: Client, deck: Deck) -> None:
    """Another queue, type, job and team go on; so does a run that has begun."""
    begun = await deck.started(queue="slow")
    await triggered(client, "nightly", 1)
    await client.pauses.pause("queue", "slow")
    await client.pauses.pause("job", "nightly")
    await client.pauses.pause("type", "other")
    await deck.enqueue(queue="slow")
    await deck.enqueue(job_type="other")
    free = await deck.enqueue()
    theirs = await team_of(deck.database, "umbrella")
    their = await theirs.enqueue(queue="slow")
    assert {run.id for run in await deck.claim(9, types=("sync", "other"))} == {free, their}
    assert (await deck.finish(begun)).status == "completed"


async def test_a_pause_ends_by_itself(client: Client, deck: Deck) -> None:
    """After its time it holds nothing back, is told no more and is forgotten; runs of before and after alike."""
    run_id = await deck.enqueue()
    made = await client.pauses.pause("team", span=timedelta(minutes=5))
    assert made.until == made.at + timedelta(minutes=5)
    assert await ids(deck) == []
    assert "for another 5m" in (await reasons(client, run_id))[0][1]
    deck.forward(301)
    assert await client.pauses.list() == []
    assert await ids(deck) == [run_id]
    await deck.database.write(call_waiting, CallWaiting())
    assert await deck.database.read(lambda conn: conn.execute(select(pauses)).all()) == []


async def test_a_second_pause_replaces_the_first(client: Client, deck: Deck) -> None:
    """One of a kind and name; to resume it ends it, and to resume it again is a conflict that says so."""
    await client.pauses.pause("queue", "slow", reason="one")
    await client.pauses.pause("queue", "slow", reason="two", span=timedelta(hours=1))
    assert [pause.reason for pause in await client.pauses.list()] == ["two"]
    assert (await client.pauses.resume("queue", "slow")).reason == "two"
    with pytest.raises(Conflict, match="the queue slow is not paused"):
        await client.pauses.resume("queue", "slow")


async def test_pauses_of_other_teams(client: Client, deck: Deck) -> None:
    """They are neither shown nor ended; one of everything is shown to all."""
    theirs = client_of(await team_of(deck.database, "umbrella"))
    await theirs.pauses.pause("queue", "slow")
    assert await client.pauses.list() == []
    with pytest.raises(Conflict):
        await client.pauses.resume("queue", "slow")
    await theirs.pauses.pause("all")
    assert [pause.kind for pause in await client.pauses.list()] == ["all"]


@pytest.mark.parametrize(
    ("kind", "name", "span", "field"),
    [
        ("worker", "w", None, "kind"), ("queue", "", None, "name"), ("team", "acme", None, "name"),
        ("queue", "a b", None, "queue"), ("type", "x" * 129, None, "name"), ("all", "", timedelta(0), "for"),
        ("all", "", timedelta(days=367), "for"),
    ],
)  # fmt: skip
async def test_what_cannot_be_paused(
    client: Client, kind: str, name: str, span: timedelta | None, field: str
) -> None:
    """Refused by the name of the field, and nothing is paused."""
    with pytest.raises(ValidationError) as caught:
        await client.pauses.pause(kind, name, span=span)
    assert caught.value.field == field
    assert await client.pauses.list() == []


async def test_jobs_of_one_slug_in_two_projects(client: Client, deck: Deck) -> None:
    """They are paused and resumed apart, and `why` names the project that its command has to be given in."""
    await client.projects.create("other")
    there = client_of(deck, project=(await client.projects.list())[-1])
    (ours,), (theirs,) = await triggered(client, "nightly", 1), await triggered(there, "nightly", 1)
    await client.pauses.pause("job", "nightly")
    await there.pauses.pause("job", "nightly")
    assert len(await client.pauses.list()) == 2
    assert (await client.runs.why(theirs))[0].command == "jobdeck --project other resume job nightly"
    await there.pauses.resume("job", "nightly")
    assert await ids(deck) == [theirs]
    await client.pauses.resume("job", "nightly")
    assert await ids(deck) == [ours]


async def test_what_holds_nothing_back_any_more_is_forgotten(client: Client, deck: Deck) -> None:
    """After a pause and after a limit the job's runs go the quick way again; keys keep their gate."""
    job = await client.jobs.create("nightly", SYNC | {"max_concurrency": 1})
    waiting = [(await client.jobs.trigger(job.id)).id for _ in range(3)]
    await client.pauses.pause("job", "nightly")
    await client.jobs.update(job.id, {"max_concurrency": None})
    assert len(await stored_gates(deck)) == 1
    await client.pauses.resume("job", "nightly")
    assert await stored_gates(deck) == []
    assert await ids(deck) == waiting
    await client.jobs.trigger(job.id, concurrency_key="crm")
    await client.pauses.pause("job", "nightly")
    await client.pauses.resume("job", "nightly")
    assert len(await stored_gates(deck)) == 1


async def stored_gates(deck: Deck) -> list[int]:
    found = await deck.database.read(lambda conn: conn.execute(select(gates.c.id)).scalars().all())
    return list(found)


@pytest.mark.parametrize("text", ["{", "{}", "[]", "[" * 5_000, '{"rates": 5}', '{"max_concurrency": "x"}'])
async def test_limits_that_nobody_can_read(client: Client, deck: Deck, text: str) -> None:
    """Nothing passes that gate, `why` says so, and all else goes on."""
    (run_id,) = await triggered(client, "nightly", 1, max_concurrency=1)
    await deck.database.write(execute_statement, update(gates).values(limits=text))
    free = await deck.enqueue()
    assert await ids(deck) == [free]
    assert (await reasons(client, run_id))[0][1].startswith("0 runs of the job nightly may run at a time")


async def test_a_gate_that_nobody_knows(client: Client, deck: Deck) -> None:
    """A run that somebody has put behind one does not begin, `why` says so, and what it says ends the wait."""
    run_id = await deck.enqueue()
    await deck.database.write(execute_statement, update(runs).where(runs.c.id == run_id).values(gate=99))
    assert await ids(deck) == []
    ((kind, text),) = await reasons(client, run_id)
    assert (kind, "somebody has changed it in the database" in text) == ("gate", True)
    (reason,) = await client.runs.why(run_id)
    assert reason.command == f"jobdeck runs cancel {show_id('run', run_id)}"
    await client.runs.cancel(run_id)
    assert (await deck.show(run_id)).status == "cancelled"


async def test_a_wait_for_nobody(client: Client, deck: Deck) -> None:
    """A run that somebody has marked as blocked, though nothing is in its way, is told to be so."""
    run_id = await deck.enqueue()
    await deck.database.write(execute_statement, update(runs).where(runs.c.id == run_id).values(blocked=1))
    assert await ids(deck) == []
    ((kind, text),) = await reasons(client, run_id)
    assert (kind, "somebody has changed it in the database" in text) == ("run", True)


async def test_a_job_that_is_unknown_cannot_be_paused(client: Client) -> None:
    """The error that every command has for it."""
    with pytest.raises(NotFound):
        await client.pauses.pause("job", "unheard_of")


# -- how many at a time -----------------------------------------------------------------------------------------


async def test_runs_of_a_job_at_a_time(client: Client, deck: Deck) -> None:
    """As many as it says, whoever claims; each end lets the next begin, others are not held back by it."""
    waiting = await triggered(client, "nightly", 5, max_concurrency=2)
    free = await deck.enqueue()
    first = await deck.claim(10)
    assert {run.id for run in first} == {*waiting[:2], free}
    assert await ids(deck) == []
    kind, words = (await reasons(client, waiting[2]))[0]
    assert kind == "concurrency"
    assert words.startswith("2 runs of the job nightly may run at a time: run_")
    await deck.finish(first[0])
    assert await ids(deck) == waiting[2:3]


async def test_a_limit_that_comes_later_counts_what_runs(client: Client, deck: Deck) -> None:
    """Runs that wait and runs that have begun before there was a limit stand behind it; so it goes the other way."""
    job = await client.jobs.create("nightly", SYNC)
    waiting = [(await client.jobs.trigger(job.id)).id for _ in range(4)]
    begun = await deck.claim(2)
    await client.jobs.update(job.id, {"max_concurrency": 1})
    assert await ids(deck) == []
    await deck.finish(begun[0])
    assert await ids(deck) == []
    await deck.finish(begun[1])
    assert await ids(deck) == waiting[2:3]
    await client.jobs.update(job.id, {"max_concurrency": None})
    assert await ids(deck) == waiting[3:]


@pytest.mark.parametrize(
    "outcome", [AttemptOutcome.ERROR, AttemptOutcome.SNOOZED, AttemptOutcome.INTERRUPTED]
)
async def test_a_place_is_free_however_an_attempt_ends(
    client: Client, deck: Deck, outcome: AttemptOutcome
) -> None:
    """A failure that will be retried, a snooze, a worker that stops: the next one begins."""
    waiting = await triggered(client, "nightly", 2, max_concurrency=1)
    (begun,) = await deck.claim(5)
    await deck.finish(begun, outcome, retry_in_us=3_600_000_000)
    taken = await ids(deck)
    assert len(taken) == 1
    assert taken[0] in waiting


async def test_a_lost_worker_frees_its_place(client: Client, deck: Deck) -> None:
    """When its lease has ended and it is recovered, not before."""
    waiting = await triggered(client, "nightly", 2, max_concurrency=1)
    await deck.claim(5)
    deck.forward(31)
    assert await ids(deck) == []
    await deck.recover()
    assert len(await deck.claim(5)) == 1
    assert len(waiting) == 2


async def test_runs_of_a_queue_at_a_time(client: Client, deck: Deck) -> None:
    """Of all types and jobs together; other queues, and the same queue of another team, are not held back."""
    assert (await client.queues.limit("slow", 2)).max_concurrency == 2
    await triggered(client, "nightly", 2, queue="slow")
    waiting = [await deck.enqueue(queue="slow", job_type="other") for _ in range(2)]
    theirs = await (await team_of(deck.database, "umbrella")).enqueue(queue="slow")
    free = await deck.enqueue()
    taken = await deck.claim(10, types=("sync", "other"))
    assert len(taken) == 4
    assert {free, theirs} < {run.id for run in taken}
    words = [reason.text for reason in await client.runs.why(waiting[1])]
    assert "2 runs of the queue slow may run at a time" in words
    assert (await client.queues.limit("slow", None)).max_concurrency is None
    assert len(await deck.claim(10, types=("sync", "other"))) == 2


async def test_runs_with_the_same_key_take_turns(client: Client, deck: Deck) -> None:
    """One after the other in the order of claims; other keys and runs without one go on meanwhile."""
    same = [await deck.enqueue(extras=keyed("crm")) for _ in range(3)]
    first = await deck.enqueue(extras=keyed("crm"), priority=1)
    other, free = await deck.enqueue(extras=keyed("shop")), await deck.enqueue()
    taken = {run.id: run for run in await deck.claim(10)}
    assert set(taken) == {first, other, free}
    kind, words = (await reasons(client, same[0]))[0]
    assert (kind, words.split(":")[0]) == ("key", "1 with the key crm may run at a time")
    run = await client.runs.show(same[0])
    assert (run.label, run.held_reason) == (Label.HELD, "waits for a place under its concurrency key")
    begun = taken[first]
    for next_id in same:
        assert await ids(deck) == []
        await deck.finish(begun)
        (begun,) = await deck.claim(10)
        assert begun.id == next_id


async def test_as_many_of_a_key_as_its_job_says(client: Client, deck: Deck) -> None:
    """Keys of different jobs are different keys; the number is that of the job."""
    job = await client.jobs.create("nightly", SYNC | {"max_concurrency_per_key": 2})
    for _ in range(4):
        await client.jobs.trigger(job.id, concurrency_key="crm")
    other = await client.jobs.create("hourly", SYNC | {"concurrency_key": "crm"})
    run = await client.jobs.trigger(other.id)
    assert (await client.runs.show(run.id)).concurrency_key == "crm"
    taken = await deck.claim(10)
    assert len(taken) == 3
    assert run.id in {each.id for each in taken}


async def test_thousands_of_one_key_hide_no_other(client: Client, deck: Deck) -> None:
    """They are put aside as claims come to them, and a run of another key behind them begins."""
    await deck.enqueue_many(2_000, extras=keyed("crm"), due_at=datetime(2026, 1, 1, tzinfo=UTC))
    other = await deck.enqueue(extras=keyed("shop"))
    taken: list[UUID] = []
    for _ in range(4):
        taken += await ids(deck, 2)
    assert len(taken) == 2
    assert other in taken


async def test_the_next_of_a_key_is_called_when_one_that_was_called_is_cancelled(deck: Deck) -> None:
    """Nobody waits for ever for a place that nobody takes."""
    first, second, third = [await deck.enqueue(extras=keyed("crm")) for _ in range(3)]
    (begun,) = await deck.claim(5)
    assert begun.id == first
    await deck.finish(begun)
    await deck.cancel(second)
    assert await ids(deck) == []
    assert not await deck.database.read(nothing_left, await deck.now(), ("sync",), ())
    assert (await deck.database.write(call_waiting, CallWaiting())).runs == 1
    assert await ids(deck) == [third]


@pytest.mark.parametrize(("before", "after", "taken"), [(None, 1, 1), (1, None, 2)])
async def test_a_run_that_is_retried_stands_where_its_job_does_now(
    client: Client, deck: Deck, before: int | None, after: int | None, taken: int
) -> None:
    """Whatever limit its job had when it ended: a new one holds for it, and one that is gone keeps it from nothing."""
    job = await client.jobs.create("nightly", SYNC | {"max_attempts": 1, "max_concurrency": before})
    failed = [(await client.jobs.trigger(job.id)).id for _ in range(2)]
    for _ in failed:
        for begun in await deck.claim(5):
            await deck.finish(begun, AttemptOutcome.ERROR)
    await client.jobs.update(job.id, {"max_concurrency": after})
    for run_id in failed:
        await deck.retry(run_id)
    assert len(await ids(deck)) == taken


async def test_a_run_that_is_retried_is_paused_with_its_job(client: Client, deck: Deck) -> None:
    """Its job was paused when it had ended already; it begins with the others, when that is over."""
    (failed,) = await triggered(client, "nightly", 1, max_attempts=1)
    (begun,) = await deck.claim(5)
    await deck.finish(begun, AttemptOutcome.ERROR)
    await client.pauses.pause("job", "nightly")
    await deck.retry(failed)
    assert await ids(deck) == []
    await client.pauses.resume("job", "nightly")
    assert await ids(deck) == [failed]


async def test_a_run_that_was_put_aside_can_end_and_come_back(deck: Deck) -> None:
    """Cancelled while it waited for its key and retried after: it is ready, and waits again if it has to."""
    first, second = [await deck.enqueue(extras=keyed("crm")) for _ in range(2)]
    (begun,) = await deck.claim(5)
    await deck.claim(5)
    assert await blocked(deck, second) == (1, True)
    await deck.cancel(second)
    await deck.retry(second)
    assert await blocked(deck, second) == (0, False)
    assert await ids(deck) == []
    await deck.finish(begun)
    assert await ids(deck) == [second]
    assert begun.id == first


async def blocked(deck: Deck, run_id: UUID) -> tuple[int, bool]:
    query = select(runs.c.blocked, runs.c.gated).where(runs.c.id == run_id)
    row = await deck.database.read(lambda conn: conn.execute(query).one())
    return row.blocked, bool(row.gated)


# -- how often, and when ------------------------------------------------------------------------------------------


async def test_no_more_in_any_stretch_of_time(client: Client, deck: Deck) -> None:
    """Three in ten seconds, wherever one begins to count; what is refused begins when the first leaves the window."""
    await triggered(client, "nightly", 9, rate_limit={"max": 3, "window": "10s"})
    begun: list[float] = []
    for _ in range(45):
        begun += [deck.database.offset_us / 1e6 for _ in await deck.claim(10)]
        deck.forward(1)
    assert len(begun) == 9
    for start in begun:
        assert sum(start <= moment < start + 10 for moment in begun) <= 3
    assert begun[8] - begun[0] < 25


async def test_a_rate_says_when_it_resets(client: Client, deck: Deck) -> None:
    """In `why`, to the second; and what is older than any window is forgotten."""
    waiting = await triggered(client, "nightly", 3, rate_limit={"max": 2, "window": "1m"})
    assert len(await deck.claim(10)) == 2
    deck.forward(20)
    assert ("rate", "the rate limit (2 per 1m) resets in 40s") in await reasons(client, waiting[2])
    deck.forward(86_500)
    assert await ids(deck) == waiting[2:]
    uses = await deck.database.read(lambda conn: conn.execute(select(rate_uses.c.uses)).scalars().all())
    assert list(uses) == [1]


async def test_jobs_share_a_named_rate(client: Client, deck: Deck) -> None:
    """What one uses the other has no more; each keeps to its own number, and another team has its own."""
    await triggered(client, "one", 3, rate_limit_keys=[{"name": "api", "max": 4, "window": "1m"}])
    await triggered(client, "two", 3, rate_limit_keys=[{"name": "api", "max": 2, "window": "1m"}], priority=1)
    taken = [(await client.runs.show(run.id)).job for run in await deck.claim(10)]
    assert sorted(job or "" for job in taken) == ["one", "one", "two", "two"]
    theirs = client_of(await team_of(deck.database, "umbrella"))
    await triggered(theirs, "one", 1, rate_limit_keys=[{"name": "api", "max": 1, "window": "1m"}])
    assert len(await deck.claim(10)) == 1


async def test_a_window_opens_and_closes(client: Client, deck: Deck) -> None:
    """Outside it nothing of the job begins, and `why` says when it opens; what has begun goes on."""
    now = from_us(await deck.now())
    opens = (now + timedelta(hours=2)).replace(minute=0, second=0, microsecond=0)
    window = {"cron": f"* {opens.hour} * * *"}
    first, second = await triggered(client, "nightly", 2, execution_window=window)
    assert await ids(deck) == []
    assert (await reasons(client, first))[0][1].endswith(f"{opens:%Y-%m-%d %H:%M} UTC")
    deck.forward((opens - now).total_seconds() + 1)
    assert await ids(deck, 1) == [first]
    deck.forward(3_601)
    assert await ids(deck) == []
    assert await reasons(client, second) != []


# -- order and fairness ---------------------------------------------------------------------------------------------


async def test_the_order_under_limits_is_that_of_every_claim(client: Client, deck: Deck) -> None:
    """Teams in turn, inside a team by priority and due time, whether something is limited or not."""
    theirs = await team_of(deck.database, "umbrella")
    ours = [await deck.enqueue(priority=priority) for priority in (5, 1, 9, 1)]
    other = [await theirs.enqueue(priority=priority) for priority in (9, 5)]
    await client.pauses.pause("queue", "elsewhere")
    taken = {run.id for run in await deck.claim(4)}
    assert taken == {ours[1], ours[3], *other}


@pytest.mark.parametrize("paused", [False, True])
async def test_teams_take_turns_over_claims_of_one(client: Client, deck: Deck, *, paused: bool) -> None:
    """A worker with a single slot serves all teams in turn, however old the backlog of one of them is."""
    teams = [deck, *[await team_of(deck.database, name) for name in ("umbrella", "zoo")]]
    for team in teams:
        for _ in range(3):
            await team.enqueue()
    await deck.enqueue_many(20, due_at=datetime(2026, 1, 1, tzinfo=UTC))
    if paused:
        await client.pauses.pause("queue", "elsewhere")
    served: list[ClaimedRun] = []
    for _ in range(9):
        served += await deck.claim(1, last_team=served[-1].team_id if served else None)
    for start in (0, 3, 6):
        assert len({run.team_id for run in served[start : start + 3]}) == 3
