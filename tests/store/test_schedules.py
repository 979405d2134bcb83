"""Schedules: each fire makes one run, whoever sees it and however late, and none that it should not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobdeck.client import Client
from jobdeck.client.errands import Errands
from jobdeck.clock import from_us, to_us
from jobdeck.engine.rounds import Rounds
from jobdeck.errors import ValidationError
from jobdeck.ids import new_id
from jobdeck.model import Job
from jobdeck.states import AttemptOutcome
from jobdeck.store.database import Database
from jobdeck.store.jobs.schedules import DueSchedule, Fire, due_fires, due_schedules, fire
from jobdeck.store.schema import job_versions, runs, schedules
from tests.databases import opened
from tests.store.clients import SPECS, client_of
from tests.store.deck import Deck, execute_statement

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
MINUTELY = {"cron": "* * * * *"}


@pytest.fixture
async def client(deck: Deck) -> AsyncIterator[Client]:
    """A client of the deck's team; the clock stands at noon, a little after the minute."""
    await at(deck, NOON + timedelta(seconds=5))
    made = client_of(deck)
    yield made
    made.close()


async def at(deck: Deck, moment: datetime) -> None:
    """Set the database's clock."""
    deck.database.offset_us += to_us(moment) - await deck.now()


def rounds_on(database: Database) -> Rounds:
    return Rounds(database, Errands(database, "worker", SPECS.get).plan_fire)


async def fired(deck: Deck) -> int:
    """One round of a worker; how many runs it made."""
    return await rounds_on(deck.database).fire()


async def fires_of(deck: Deck, job: Job) -> list[datetime]:
    """The fire times of the runs of a job."""
    return sorted(from_us(row["fire_at"]) for row in await deck.rows(runs, job_id=job.id))


async def scheduled(client: Client, slug: str = "nightly", **schedule: Any) -> Job:
    return await client.jobs.create(slug, {"type": "sync", "schedule": MINUTELY | schedule})


async def test_a_fire_makes_a_run(client: Client, deck: Deck) -> None:
    """At its time and not before; the run says which schedule and job it is of; then the next fire is waited for."""
    job = await scheduled(client, cron="30 12 * * *", timezone="Europe/London")
    assert job.next_fire_at == NOON.replace(hour=11, minute=30) + timedelta(days=1)
    assert await fired(deck) == 0
    await at(deck, NOON.replace(hour=11, minute=30) + timedelta(days=1, seconds=2))
    assert await fired(deck) == 1
    assert await fired(deck) == 0
    (run,) = [await client.runs.show(row["id"]) for row in await deck.rows(runs)]
    assert (run.job, run.trigger_type, run.triggered_by) == ("nightly", "scheduled", "schedule:nightly")
    assert run.due_at == job.next_fire_at
    (row,) = await deck.rows(runs)
    assert row["schedule_id"] == job.schedule_id
    after = await client.jobs.show(job.id)
    assert (after.last_fire_at, after.next_fire_at) == (job.next_fire_at, run.due_at + timedelta(days=1))


async def test_many_workers_make_one_run(client: Client, deck: Deck, database_url: str) -> None:
    """Eight workers on three databases' worth of connections see the same thirty fires: thirty runs."""
    for number in range(30):
        await scheduled(client, f"job{number}")
    deck.forward(60)
    async with opened(database_url) as second, opened(database_url) as third:
        for database in (second, third):
            database.offset_us = deck.database.offset_us
        databases = (deck.database, second, third)
        made = await asyncio.gather(*(rounds_on(databases[index % 3]).fire() for index in range(8)))
    assert sum(made) == 30
    stored = await deck.rows(runs)
    assert len({(row["job_id"], row["fire_at"]) for row in stored}) == len(stored) == 30


async def test_what_another_worker_has_fired_is_not_planned(client: Client, deck: Deck) -> None:
    """Who has seen thirty, and comes to the second handful after somebody has fired them all, leaves them alone."""
    for number in range(30):
        await scheduled(client, f"job{number}")
    deck.forward(60)
    plan_fire = Errands(deck.database, "slow", SPECS.get).plan_fire
    planned = 0

    async def plan(due: DueSchedule, now: datetime) -> Fire:
        nonlocal planned
        if planned == 0:
            assert await fired(deck) == 30
        planned += 1
        return await plan_fire(due, now)

    assert await Rounds(deck.database, plan).fire() == 0
    assert 1 <= planned <= 20
    assert len(await deck.rows(runs)) == 30


async def test_fires_of_one_transaction_come_out_each_by_itself(client: Client, deck: Deck) -> None:
    """Of those fired together one makes its run, one skips it, one is disabled, one has moved on, one comes twice."""
    slugs = ("made", "skipped", "disabled", "moved", "twice")
    ids = {slug: (await scheduled(client, slug, overlap="skip")).id for slug in slugs}
    deck.forward(60)
    assert await fired(deck) == len(slugs)
    active = {row["job_id"]: row["id"] for row in await deck.rows(runs)}
    for run in await deck.claim(len(slugs)):
        if run.id != active[ids["skipped"]]:
            await deck.finish(run, AttemptOutcome.COMPLETED)
    deck.forward(60)
    plan_fire = Errands(deck.database, "w", SPECS.get).plan_fire
    now = await deck.now()
    fires = await deck.database.read(due_fires, now)
    due = {each.slug: each for each in await deck.database.read(due_schedules, fires)}
    plans = {slug: await plan_fire(due[slug], from_us(now)) for slug in slugs}
    assert await deck.database.write(fire, plans["moved"]) == 1
    await client.jobs.switch([ids["disabled"]], enabled=False)
    before = {row["job_id"]: row for row in await deck.rows(schedules)}
    made = await deck.database.write_many(fire, [*plans.values(), plans["twice"]])
    assert made == [1, 0, 0, 0, 1, 0]
    after = {row["job_id"]: row for row in await deck.rows(schedules)}
    for slug in ("disabled", "moved"):
        assert after[ids[slug]] == before[ids[slug]]
    for slug in ("made", "twice", "skipped"):
        assert after[ids[slug]]["next_fire_at"] == before[ids[slug]]["next_fire_at"] + 60_000_000
        assert after[ids[slug]]["last_fire_at"] == before[ids[slug]]["next_fire_at"]
        is_new = after[ids[slug]]["last_run_id"] != before[ids[slug]]["last_run_id"]
        assert is_new == (slug != "skipped")
    assert "still active" in after[ids["skipped"]]["note"]
    assert after[ids["made"]]["note"] is None


async def test_more_than_are_looked_at_or_made_at_once(
    client: Client, deck: Deck, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page after page, and transaction after transaction: each fire that was missed has its run."""
    monkeypatch.setattr("jobdeck.store.jobs.schedules._AT_ONCE", 3)
    monkeypatch.setattr("jobdeck.engine.rounds._FIRED_AT_ONCE", 2)
    monkeypatch.setattr("jobdeck.engine.rounds._RUNS_AT_ONCE", 5)
    for number in range(8):
        await scheduled(client, f"job{number}", catch_up="all", catch_up_max=4, misfire_grace="30s")
    deck.forward(240)
    assert await fired(deck) == 8 * 4
    assert await fired(deck) == 0


async def test_a_schedule_whose_id_is_none_ends_the_round(client: Client, deck: Deck) -> None:
    """Rows are hostile: what the database finds again behind itself is not looked for for ever."""
    await scheduled(client)
    deck.forward(60)
    (real,) = await deck.database.read(due_fires, await deck.now())

    def endless(conn: Any, now: int, after: Any = None) -> list[Any]:
        return [real]

    rounds = rounds_on(deck.database)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jobdeck.engine.rounds.due_fires", endless)
        async with asyncio.timeout(20):
            assert await rounds.fire() == 1


async def test_the_database_itself_allows_one_run_of_a_fire(client: Client, deck: Deck) -> None:
    """A schedule that is set back by hand makes no second run of a fire."""
    await scheduled(client)
    deck.forward(60)
    plan = await Errands(deck.database, "w", SPECS.get).plan_fire(await _due(deck), from_us(await deck.now()))
    assert await deck.database.write(fire, plan) == 1
    assert await deck.database.write(fire, plan) == 0
    back = schedules.update().values(next_fire_at=to_us(plan.seen))
    await deck.database.write(execute_statement, back)
    again = replace(plan, runs=(plan.runs[0]._replace(id=new_id()),))
    assert await deck.database.write(fire, again) == 0
    assert len(await deck.rows(runs)) == 1
    (row,) = await deck.rows(schedules)
    assert from_us(row["next_fire_at"]) == plan.next_fire_at


async def _due(deck: Deck) -> Any:
    now = await deck.now()
    fires = await deck.database.read(due_fires, now)
    (due,) = await deck.database.read(due_schedules, fires)
    return due


@pytest.mark.parametrize(
    ("catch_up", "made"), [({"catch_up": "skip"}, 0), ({}, 1), ({"catch_up": "all", "catch_up_max": 7}, 7)]
)
async def test_fires_that_nobody_was_there_for(
    client: Client, deck: Deck, catch_up: dict[str, Any], made: int
) -> None:
    """After thirty days away: none, the latest one, or the latest seven; beside those of the last minute."""
    job = await scheduled(client, **catch_up, misfire_grace="30s")
    later = NOON + timedelta(days=30, seconds=45)
    await at(deck, later)
    assert await fired(deck) == made
    latest = later - timedelta(seconds=45)
    assert await fires_of(deck, job) == [latest - timedelta(minutes=each) for each in range(made)][::-1]
    shown = await client.jobs.show(job.id)
    assert shown.next_fire_at == latest + timedelta(minutes=1)
    assert "missed fires were left out" in (shown.schedule_note or "")


async def test_a_late_fire_is_no_missed_one(client: Client, deck: Deck) -> None:
    """Within the grace it is run also with `skip`, and `one` adds none to it."""
    for slug, catch_up in (("a", "skip"), ("b", "one")):
        await scheduled(client, slug, catch_up=catch_up, misfire_grace="50s")
    await at(deck, NOON + timedelta(minutes=5, seconds=40))
    assert await fired(deck) == 2
    assert {from_us(row["fire_at"]) for row in await deck.rows(runs)} == {NOON + timedelta(minutes=5)}


async def test_what_overlaps(client: Client, deck: Deck) -> None:
    """While the run of the first fire is running: another one, none, one that waits, or it is asked to stop for it."""
    jobs = {mode: await scheduled(client, mode.replace("_", "-"), overlap=mode) for mode in OVERLAPS}
    deck.forward(60)
    assert await fired(deck) == 4
    running = {run.id: run for run in await deck.claim(10)}
    assert len(running) == 4
    for _ in range(2):
        deck.forward(60)
        await fired(deck)
    for mode, (statuses, label) in OVERLAPS.items():
        rows = sorted(await deck.rows(runs, job_id=jobs[mode].id), key=lambda row: row["fire_at"])
        assert [row["status"] for row in rows] == statuses, mode
        assert (await client.runs.show(rows[0]["id"])).label == label, mode
    assert "still active" in ((await client.jobs.show(jobs["skip"].id)).schedule_note or "")
    ready = await deck.claim(10)
    assert {run.id for run in ready} == {
        row["id"] for row in await deck.rows(runs, job_id=jobs["allow"].id) if row["id"] not in running
    }
    for run in running.values():
        await deck.finish(run, AttemptOutcome.CANCELLED)
    assert len(await deck.claim(10)) == 2


OVERLAPS: dict[str, tuple[list[str], str]] = {
    "allow": (["running", "pending", "pending"], "running"),
    "skip": (["running"], "running"),
    "queue": (["running", "cancelled", "pending"], "running"),
    "cancel_previous": (["running", "cancelled", "pending"], "cancelling"),
}
"""Statuses of the runs of three fires, the first of which runs; and how that one is shown."""


async def test_disabled_jobs_do_not_fire(client: Client, deck: Deck) -> None:
    """Nothing is caught up for the time they were disabled; an archived one has no schedule any more."""
    job = await scheduled(client, catch_up="all")
    await client.jobs.switch([job.id], enabled=False)
    assert (await client.jobs.show(job.id)).next_fire_at is None
    deck.forward(600)
    assert await fired(deck) == 0
    await client.jobs.switch([job.id], enabled=True)
    assert await fired(deck) == 0
    deck.forward(60)
    assert await fired(deck) == 1
    await client.runs.cancel((await deck.rows(runs))[0]["id"])
    await client.jobs.archive(job.id)
    deck.forward(600)
    assert await fired(deck) == 0


async def test_a_changed_schedule(client: Client, deck: Deck) -> None:
    """A new expression counts from now; a change of something else does not lose the fire that is due."""
    job = await scheduled(client)
    deck.forward(60)
    await client.jobs.update(job.id, {"priority": 1})
    assert await fired(deck) == 1
    changed = await client.jobs.update(job.id, {"schedule": {"cron": "0 15 * * *"}})
    assert changed.next_fire_at == NOON.replace(hour=15)
    gone = await client.jobs.update(job.id, {"schedule": None})
    assert (gone.next_fire_at, await deck.rows(schedules)) == (None, [])


async def test_the_bounds_of_a_schedule(client: Client, deck: Deck) -> None:
    """Not before its start, whose own fire counts, and not after its end; then it is done."""
    job = await scheduled(
        client, start=(NOON + timedelta(minutes=3)).isoformat(), end=(NOON + timedelta(minutes=4)).isoformat()
    )
    assert job.next_fire_at == NOON + timedelta(minutes=3)
    for _ in range(6):
        deck.forward(60)
        await fired(deck)
    assert await fires_of(deck, job) == [NOON + timedelta(minutes=each) for each in (3, 4)]
    assert (await client.jobs.show(job.id)).next_fire_at is None


async def test_jitter_keeps_its_distance(client: Client, deck: Deck) -> None:
    """Ten jobs of one minute are spread over the hour, and each fires a day later at its own time again."""
    jobs = [await scheduled(client, f"job{n}", cron="0 13 * * *", jitter=3_600) for n in range(10)]
    times = [job.next_fire_at for job in jobs]
    assert len(set(times)) > 7
    assert all(NOON.replace(hour=13) <= each <= NOON.replace(hour=14) for each in times if each)
    await at(deck, NOON.replace(hour=15))
    await fired(deck)
    again = [(await client.jobs.show(job.id)).next_fire_at for job in jobs]
    assert again == [each + timedelta(days=1) for each in times if each]


async def test_a_fire_that_cannot_make_a_run(client: Client, deck: Deck) -> None:
    """Params that are missing, or a single flight in the way: the schedule goes on, and says why there is no run."""
    incomplete = await client.jobs.create(
        "incomplete", {"type": "sync", "params": {"pages": 1}, "schedule": MINUTELY}
    )
    spoilt = '{"type":"sync","params":{"pages":0},"schedule":{"cron":"* * * * *"}}'
    statement = job_versions.update().where(job_versions.c.job_id == incomplete.id).values(definition=spoilt)
    await deck.database.write(execute_statement, statement)
    single = await client.jobs.create("single", {"type": "single", "schedule": MINUTELY})
    await client.runs.trigger("single")
    deck.forward(60)
    assert await fired(deck) == 0
    for job, words in ((incomplete, "no run was made: params of sync: pages"), (single, "already pending")):
        shown = await client.jobs.show(job.id)
        assert words in (shown.schedule_note or "")
        assert shown.next_fire_at == NOON + timedelta(minutes=2)


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ({"cron": "61 * * * *"}, "schedule: cron: "),
        ({"cron": "* * * * * *"}, "schedule: cron: "),
        ({"cron": "0 0 30 2 *"}, "schedule: cron: "),
        ({"cron": "* * * * *", "timezone": "Mars/Base"}, "schedule: timezone: "),
        ({"cron": "* * * * *", "jitter": 3_601}, "schedule.jitter: "),
        ({"cron": "* * * * *", "catch_up": "some"}, "schedule.catch_up: "),
        ({"cron": "* * * * *", "catch_up_max": 1_001}, "schedule.catch_up_max: "),
        ({"cron": "* * * * *", "overlap": "maybe"}, "schedule.overlap: "),
        ({"cron": "* * * * *", "start": "2026-01-01T00:00:00"}, "a time needs a time zone"),
        ({"cron": "* * * * *", "start": "2026-02-01T00:00Z", "end": "2026-01-01T00:00Z"}, "ends before"),
        ({"timezone": "UTC"}, "schedule.cron: it is needed"),
    ],
)
async def test_a_schedule_that_cannot_work_is_refused(
    client: Client, deck: Deck, schedule: dict[str, Any], words: str
) -> None:
    """With the job and in one line; nothing is stored."""
    with pytest.raises(ValidationError, match=words) as caught:
        await client.jobs.create("bad", {"type": "sync", "schedule": schedule})
    assert "\n" not in caught.value.message
    assert await deck.rows(schedules) == []


async def test_a_schedule_that_this_worker_cannot_read(client: Client, deck: Deck) -> None:
    """One that is spoilt, of a newer jobdeck or of a type nobody here knows stays due for others, and keeps none of the
    others from firing."""
    good = await scheduled(client, "good")
    bad = {"array": "[]", "newer": '{"type":"sync","colour":1,"schedule":{"cron":"* * * * *"}}'}
    bad["unknown"] = '{"type":"elsewhere","schedule":{"cron":"* * * * *"}}'
    for slug, definition in bad.items():
        job = await scheduled(client, slug)
        statement = job_versions.update().where(job_versions.c.job_id == job.id).values(definition=definition)
        await deck.database.write(execute_statement, statement)
    deck.forward(60)
    for _ in range(2):
        await fired(deck)
    assert len(await fires_of(deck, good)) == 1
    due = [row for row in await deck.rows(schedules) if row["next_fire_at"] <= await deck.now()]
    assert len(due) == 3


async def test_more_late_fires_than_may_be_made_up_for(client: Client, deck: Deck) -> None:
    """Also of those that are not too late only so many are run, and the job says that others were left out."""
    job = await scheduled(client, misfire_grace="30m", catch_up_max=10)
    await at(deck, NOON + timedelta(minutes=15, seconds=30))
    assert await fired(deck) == 10
    assert "left out" in ((await client.jobs.show(job.id)).schedule_note or "")
