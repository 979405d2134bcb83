"""Schedules through the store's own rows: a year of clock changes, and a month that nobody was there for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import select, update

from jobdeck.model import JobSpec
from jobdeck.store.schema import schedules
from tests.cron.oracle import changes_of, walked
from tests.faults.case import LONG_LEASE, Case
from tests.faults.history import Row
from tests.faults.virtual import TYPE, Virtual, fired_as, fires_of, virtual

ZONES = ("America/New_York", "Europe/London", "Australia/Lord_Howe", "UTC", "Asia/Kolkata")
# Fixed times in gaps and overlaps, hours and parts of hours in real time, and one of each in the same hour.
EXPRESSIONS = ("30 2 * * *", "30 1 * * *", "0 * * * *", "*/20 1 * * *", "15,45 1-2 * * *")
# A stretch begins at a minute in which nothing fires, in any of the zones.
OFF_BEAT = timedelta(minutes=7, seconds=30)
SHORT, WHOLE = timedelta(hours=4), timedelta(hours=30)
Stretch = tuple[datetime, datetime]


async def test_t01_a_year_of_clock_changes(case: Case) -> None:
    """Five schedules in each of five zones: around all changes of 2026 they fire as an oracle has it, by the minute."""
    stretches = changing(case.size.of(SHORT, WHOLE))
    expected: dict[UUID, list[datetime]] = {}
    async with virtual(case) as around:
        await around.at(stretches[0][0])
        ids = await _schedule_all(around)
        for begin, end in stretches:
            await around.at(begin)
            assert await around.rounds.fire() == 0, "nothing is caught up"
            while (fire := await around.next_fire()) is not None and fire <= end:
                await around.at(fire + timedelta(seconds=1))
                assert await around.rounds.fire() > 0
            for (zone, expression), job_id in ids.items():
                fires = walked((expression,), ZoneInfo(zone), begin, end)[expression]
                expected.setdefault(job_id, []).extend(fires)
        history = case.history()
        more = list(fired_as(history, expected))
    hours = sum((end - begin for begin, end in stretches), timedelta()) // timedelta(hours=1)
    case.judge(
        more=more, faults=0, note=f"{len(history.runs):,} fires of {len(ids)} schedules in {hours} hours"
    )


def changing(around: timedelta) -> tuple[Stretch, ...]:
    """The time around each change of a clock in 2026, in order."""
    moments = sorted(changes())
    found: list[Stretch] = []
    for moment in moments:
        begin, end = moment.replace(minute=0) - around + OFF_BEAT, moment + around
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], end)
        else:
            found.append((begin, end))
    return tuple(found)


def changes() -> list[datetime]:
    """Moments a few hours after each change at most."""
    return [moment for zone in ZONES for moment in changes_of(ZoneInfo(zone), 2026, 2026)]


async def _schedule_all(around: Virtual) -> dict[tuple[str, str], UUID]:
    places = [(zone, expression) for zone in ZONES for expression in EXPRESSIONS]
    specs = [
        JobSpec(f"job{n}", {"type": TYPE, "schedule": {"cron": cron, "timezone": zone, "catch_up": "skip"}})
        for n, (zone, cron) in enumerate(places)
    ]
    ids = await around.client.jobs.create_many(specs)
    return dict(zip(places, ids, strict=True))


def test_the_stretches_hold_every_change() -> None:
    """Two changes of the clock in each of three zones, with hours on either side of each."""
    assert len(changes()) == 6
    for around in (SHORT, WHOLE):
        for moment in changes():
            hours = around - timedelta(hours=1)
            assert any(begin < moment - hours and moment + hours < end for begin, end in changing(around))


# What is run of a month of minutes that nobody was there for.
MOST = 20
POLICIES = {"skip": 0, "one": 1, "all": MOST}
AWAY = timedelta(days=30)
# Seconds. What is measured stands in the report; this is far beyond what a shared machine takes.
BOUND = 30.0


def catching_up(policy: str, cron: str = "* * * * *") -> dict[str, Any]:
    """Every minute, unless said otherwise; a fire that is later than a second was missed."""
    return {"cron": cron, "catch_up": policy, "catch_up_max": MOST, "misfire_grace": "1s"}


async def test_t04_a_month_away(case: Case) -> None:
    """A schedule of every minute, nobody there for 30 days: none, one or twenty fires are made up for, and no more."""
    async with virtual(case) as around:
        noon = datetime(2026, 6, 1, 12, tzinfo=UTC)
        await around.at(noon + timedelta(seconds=5))
        jobs = {policy: await around.scheduled(policy, **catching_up(policy)) for policy in POLICIES}
        await around.at(noon + AWAY + timedelta(seconds=30))
        async with loop_lag() as lag:
            begun = time.monotonic()
            assert await around.rounds.fire() == sum(POLICIES.values())
            took = time.monotonic() - begun
        await around.at(noon + AWAY + timedelta(seconds=60))
        assert await around.rounds.fire() == len(POLICIES), "and then they go on"
        expected = {
            job.id: [noon + AWAY + timedelta(minutes=n) for n in range(1 - POLICIES[policy], 2)]
            for policy, job in jobs.items()
        }
        more = list(fired_as(case.history(), expected))
    measured = f"caught up in {1_000 * took:.0f} ms, loop lag {1_000 * max(lag):.0f} ms at most"
    case.judge(more=more, faults=1, note=f"30 days; {measured}")
    assert took < BOUND


async def test_t04_a_worker_comes_back(case: Case) -> None:
    """The first worker after 30 days is up as soon as any other, and makes up for what the policies say."""
    async with case.client() as client:
        # Every hour, half an hour from now: no fire comes due while the worker makes up for the others.
        cron = f"{(datetime.now(UTC).minute + 30) % 60} * * * *"
        specs = [JobSpec(each, {"type": "noop", "schedule": catching_up(each, cron)}) for each in POLICIES]
        ids = dict(zip(POLICIES, await client.jobs.create_many(specs), strict=True))
    with case.connection() as conn:
        back = {"next_fire_at": schedules.c.next_fire_at - AWAY // timedelta(microseconds=1)}
        conn.execute(update(schedules).values(back))
    case.ledger.fault("nobody there for 30 days")
    started, begun = datetime.now(UTC), time.monotonic()
    worker = case.workers.start(settings=LONG_LEASE)
    await case.until(lambda: case.history().workers)
    up = time.monotonic() - begun
    await case.until(lambda: all(row["next_fire_at"] / 1e6 > started.timestamp() for row in rows_of(case)))
    fired = time.monotonic() - begun
    worker.terminate()
    assert worker.wait() == 0
    missed = {
        job_id: [fire for fire in fires if fire <= started]
        for job_id, fires in fires_of(case.history()).items()
    }
    made = {policy: len(missed.get(job_id, [])) for policy, job_id in ids.items()}
    assert made == POLICIES
    case.judge(note=f"30 days; worker up after {up:.1f} s, caught up after {fired:.1f} s")
    assert fired < BOUND


def rows_of(case: Case) -> list[Row]:
    """The schedules."""
    with case.connection() as conn:
        return [dict(row) for row in conn.execute(select(schedules)).mappings()]


@asynccontextmanager
async def loop_lag() -> AsyncIterator[list[float]]:
    """By how many seconds this loop was late, each time it was looked at in the block."""
    seen = [0.0]

    async def look() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            seen.append(time.monotonic() - before - 0.005)

    looking = asyncio.create_task(look())
    try:
        yield seen
    finally:
        looking.cancel()
