"""The wall clock of one host is set two hours and then a day ahead, while runs and schedules are under way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from jobdeck.client import Client
from jobdeck.model import JobSpec
from jobdeck.store.schema import jobs, runs
from tests.faults.case import LONG_LEASE, Case
from tests.faults.history import Row
from tests.faults.hostclock import HostClock
from tests.faults.invariants import Breach
from tests.faults.workers import merged

JUMPS = (timedelta(hours=2), timedelta(days=1))
WORK = 3.0
# What is caught up of minutes that were missed, each time the database's clock is set.
MOST = 20
POLICIES = {"skip": 0, "one": 1, "all": MOST}
GRACE = timedelta(seconds=30)
AT_ONCE = merged(LONG_LEASE, {"runner": {"concurrency": 50}})
# Workers look every third of it: sooner than the work is done. It is long enough for a machine that is slow.
SHORT_LEASE = {"runner": {"concurrency": 50, "lease": "6s"}}


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_t02_one_host_of_two(case: Case, tmp_path: Path) -> None:
    """The server's clock rules: no lease is lost, nothing is caught up, and the worker says that its clock is off."""
    host = HostClock(tmp_path / "clock")
    async with case.client() as client:
        await client.jobs.create_many(_jobs())
        set_one = case.workers.start(clock=host, settings=AT_ONCE)
        case.workers.start(settings=AT_ONCE)
        for jump in JUMPS:
            await _set_while_under_way(case, client, host, jump)
        await case.until(lambda: "off the database's" in set_one.said())
    more = [*_caught_up(case, times=0), *_begun_again(case)]
    case.judge(more=more, faults=len(JUMPS), note="one host of two: no run is begun again")


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_t02_the_host_of_a_file(case: Case, tmp_path: Path) -> None:
    """The host's clock is the database's: no lease is lost, each policy catches up what it says, and workers tell."""
    host = HostClock(tmp_path / "clock")
    async with case.client() as client:
        await client.jobs.create_many(_jobs())
        workers = [case.workers.start(clock=host, settings=SHORT_LEASE) for _ in range(2)]
        for jump in JUMPS:
            await _set_while_under_way(case, client, host, jump)
            times = JUMPS.index(jump) + 1
            # The fire of the current minute may be one of them, and is no missed one.
            least = times * (MOST - 1)
            await case.until(lambda least=least: _missed(case)["all"] >= least)  # type: ignore[misc]
        await case.until(lambda: all("the database's clock has been set" in each.said() for each in workers))
    more = [*_caught_up(case, times=len(JUMPS)), *_begun_again(case)]
    case.judge(more=more, faults=len(JUMPS), note="the host of a file: no run is begun again")


def _jobs() -> list[JobSpec]:
    """One job for each policy, due every minute."""
    return [JobSpec(policy, {"type": "noop", "schedule": _schedule(policy)}) for policy in POLICIES]


def _schedule(policy: str) -> dict[str, Any]:
    return {
        "cron": "* * * * *",
        "catch_up": policy,
        "catch_up_max": MOST,
        "misfire_grace": f"{GRACE.seconds}s",
    }


async def _set_while_under_way(case: Case, client: Client, host: HostClock, jump: timedelta) -> None:
    """Set the host's clock while runs are at work; return when all have done it."""
    count, before = case.size.of(4, 20), len(done(case))
    await case.enqueue(client, count, seconds=WORK)
    await case.until(lambda: len(case.history().leases) + len(done(case)) - before >= count)
    case.ledger.fault(f"set the clock by {jump}")
    host.jump(jump.total_seconds())
    await case.until(lambda: len(done(case)) == before + count)


def done(case: Case) -> list[Row]:
    """Runs that people asked for, once they are completed."""
    return [row for row in case.history().runs if row["fire_at"] is None and row["status"] == "completed"]


def _begun_again(case: Case) -> Iterator[Breach]:
    for row in case.history().attempts:
        if row["outcome"] != "completed":
            yield Breach("T02", row["run_id"].hex, f"an attempt of it is {row['outcome']}")


def _missed(case: Case) -> Counter[str]:
    """How many fires each policy has made up for."""
    with case.connection() as conn:
        late = runs.c.created_at - runs.c.fire_at > GRACE // timedelta(microseconds=1)
        query = select(jobs.c.slug).join(runs, runs.c.job_id == jobs.c.id).where(late)
        return Counter(conn.execute(query).scalars())


def _caught_up(case: Case, *, times: int) -> Iterator[Breach]:
    """I7: of what was missed, each policy has made up for so many fires each time, and for no more."""
    made = _missed(case)
    for policy, most in POLICIES.items():
        if made[policy] > times * most:
            yield Breach("I7", policy, f"{made[policy]} missed fires were run, at most {times * most} may be")
