"""Workers that fire schedules, killed and frozen while they do: no fire is missed, none is made twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from uuid import UUID

import pytest
from sqlalchemy import null, select, update

from jobdeck.client import Client
from jobdeck.clock import from_us, to_us
from jobdeck.model import JobSpec
from jobdeck.store.schema import schedules
from tests.faults.case import LEASE, Case
from tests.faults.invariants import Breach
from tests.faults.killpoints import EXIT_CODE, FIRING, Action, KillPoint
from tests.faults.ledger import Kind, of_kind
from tests.faults.virtual import fired_as

MINUTE = timedelta(minutes=1)
# Schedules of a wave, minutes that each of them is late, and kills at each point.
WAVE, LATE = 10, 10
SHORT, WHOLE = 2, 10
PATIENT = {"database": {"busy_timeout": "30s"}}
SCHEDULE = {"cron": "* * * * *", "catch_up": "all", "catch_up_max": 1_000}


class Waves:
    """Schedules that are made some at a time, all of them late by the same minutes."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._numbers = count()
        self._ids: list[UUID] = []
        """Of their jobs; workers bring schedules of their own."""
        self.since = datetime.now(UTC).replace(second=0, microsecond=0) - LATE * MINUTE

    async def release(self, client: Client) -> None:
        """Make one more wave, which is due at once."""
        names = [f"job{next(self._numbers)}" for _ in range(WAVE)]
        specs = [JobSpec(name, {"type": "noop", "schedule": SCHEDULE}) for name in names]
        ids = await client.jobs.create_many(specs)
        self._ids += ids
        with self._case.connection() as conn:
            late = update(schedules).where(schedules.c.job_id.in_(ids))
            conn.execute(late.values(next_fire_at=to_us(self.since)))

    def stop(self) -> dict[UUID, list[datetime]]:
        """Nothing more fires; the minutes that each job must have fired at by now."""
        with self._case.connection() as conn:
            mine = schedules.c.job_id.in_(self._ids)
            rows = conn.execute(select(schedules.c.job_id, schedules.c.next_fire_at).where(mine)).all()
            conn.execute(update(schedules).values(next_fire_at=null()))
        return {row.job_id: list(self._minutes(from_us(row.next_fire_at))) for row in rows}

    def _minutes(self, end: datetime) -> Iterator[datetime]:
        moment = self.since
        while moment < end:
            yield moment
            moment += MINUTE

    def done(self) -> bool:
        """Whether nobody is late any more."""
        with self._case.connection() as conn:
            mine = schedules.c.job_id.in_(self._ids)
            waiting = conn.execute(select(schedules.c.next_fire_at).where(mine)).scalars()
            return all(moment > to_us(self.since + LATE * MINUTE) for moment in waiting)


async def test_r32_schedulers_killed(case: Case) -> None:
    """A worker ends with its runs made, with its schedules moved on, with all of it stored; others go on from there."""
    waves, kills = Waves(case), case.size.of(SHORT, WHOLE)
    async with case.client(PATIENT) as client:
        for point in FIRING:
            for nth in range(1, kills + 1):
                await waves.release(client)
                victim = case.workers.start(kill=KillPoint(point, 1 + nth % 2 if point == FIRING[0] else 1))
                assert await asyncio.to_thread(victim.wait) == EXIT_CODE, victim.said()
        for _ in range(2):
            case.workers.start()
        await waves.release(client)
        await case.until(waves.done)
    _judge(case, waves, f"{kills} kills at each of {len(FIRING)} points")


@pytest.mark.parametrize("point", FIRING)
async def test_r32_a_frozen_scheduler(case: Case, point: str) -> None:
    """One of three is frozen for two leases while it fires: what it has begun is whole, and nobody fires it again."""
    waves = Waves(case)
    async with case.client(PATIENT) as client:
        await waves.release(client)
        frozen = case.workers.start(kill=KillPoint(point, 1, Action.FREEZE))
        await case.until(lambda: of_kind(case.ledger.read(), Kind.FAULT))
        frozen_at = time.monotonic()
        for _ in range(2):
            case.workers.start()
        # A file has one lock for all that write, and whoever is frozen before its commit holds it.
        if case.kind == "postgresql" or point == "fire.after_commit":
            await waves.release(client)
        await asyncio.sleep(max(0.0, frozen_at + 2 * LEASE - time.monotonic()))
        frozen.thaw()
        await case.until(waves.done)
        await waves.release(client)
        await case.until(waves.done)
    assert frozen.alive, frozen.said()
    _judge(case, waves, f"frozen at {point}")


def _judge(case: Case, waves: Waves, note: str) -> None:
    for worker in case.workers.alive:
        worker.terminate()
        assert worker.wait() == 0
    expected = waves.stop()
    case.workers.start("--drain").wait()
    history = case.history()
    more: Sequence[Breach] = list(fired_as(history, expected))
    case.judge(more=more, note=f"{note}; {len(history.runs):,} fires of {len(expected)} schedules")
    assert {row["status"] for row in history.runs} == {"completed"}
