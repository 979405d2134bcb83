"""Hosts whose wall clocks are wrong, or are set while runs are under way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.case import LONG_LEASE, POLL, Case
from tests.faults.history import History
from tests.faults.hostclock import HostClock
from tests.faults.invariants import Breach, prompt

# Seconds.
OFF = 300.0
DELAY = 3.0
EARLY, LATE = 1.0, 2.0
WORK = 2.0
# uvloop's timers count from the beginning of the turn in which they are made.
SOONER = 0.1
# Workers look every third of it: sooner than the work is done. It is long enough for a machine that is slow.
LEASE = "5s"


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_t05_clocks_that_are_off(case: Case, tmp_path: Path) -> None:
    """Workers and clients five minutes fast and slow: what is due is due by the database's clock."""
    count = case.size.of(10, 50)
    hosts = [HostClock(tmp_path / "fast", OFF), HostClock(tmp_path / "slow", -OFF)]
    for number, host in enumerate(hosts):
        case.workers.start(clock=host, settings=LONG_LEASE)
        case.workers.enqueuer(f"later-{number}", count, delay=DELAY, clock=host)
    await case.until(lambda: len(case.effects()) == 2 * count)
    since = time.monotonic()
    asking = [case.workers.enqueuer(f"now-{number}", count, clock=host) for number, host in enumerate(hosts)]
    await case.until(lambda: len(case.effects()) == 4 * count)
    await case.settled()
    history = case.history()
    more = [*_due_in_time(case, history), *prompt(case.ledger.read(), history, since=since, poll=POLL)]
    history = case.judge(more=more, faults=len(hosts), note="hosts 5 min fast and slow")
    assert {row["status"] for row in history.runs} == {"completed"}
    assert {row["outcome"] for row in history.attempts} == {"completed"}
    assert [process.wait() for process in asking] == [0, 0]


def _due_in_time(case: Case, history: History) -> Iterator[Breach]:
    """No run began before it was due, and none long after it."""
    # The database runs on this machine, whose clock is right; effects are timed by its monotonic clock.
    offset = time.time() - time.monotonic()
    begun = {str(entry.run): (entry.start or 0.0) + offset for entry in case.effects()}
    asked = {row["run_id"].hex: row["at"] / 1e6 for row in history.events if row["kind"] == "enqueued"}
    later = _later(case)
    for run_id in history.by_id:
        due = asked[run_id] + (DELAY if run_id in later else 0.0)
        if not due - EARLY <= begun[run_id] <= due + POLL + LATE:
            yield Breach("due", run_id, f"began {begun[run_id] - due:+.1f} s from when it was due")


def _later(case: Case) -> set[str]:
    return {
        str(entry.run) for entry in case.ledger.read() if (entry.key or "").startswith("later-") and entry.run
    }


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize("jump", [OFF, -OFF], ids=["forward", "back"])
async def test_t05_a_clock_that_is_set(case: Case, tmp_path: Path, jump: float) -> None:
    """All processes of a file share a host. Its clock is set: waits are as long as ever, no run is begun again."""
    count = case.size.of(4, 20)
    host = HostClock(tmp_path / "clock")
    settings = {"runner": {"concurrency": 2 * count, "lease": LEASE}}
    async with case.client() as client:
        await case.enqueue(client, count, seconds=WORK)
        case.workers.start(clock=host, settings=settings)
        await case.until(lambda: len(case.history().leases) == count)
    case.ledger.fault("set the clock")
    host.jump(jump)
    set_at = time.monotonic()
    asking = case.workers.enqueuer("after", count, clock=host)
    assert await asyncio.to_thread(asking.wait) == 0
    await case.until(lambda: len({entry.run for entry in case.effects()}) == 2 * count)
    await case.until(lambda: all(row["status"] == "completed" for row in case.history().runs))
    more = list(prompt(case.ledger.read(), case.history(), since=set_at, poll=POLL))
    slept = [
        (entry.end or 0.0) - (entry.start or 0.0) for entry in case.effects() if "after" not in str(entry.key)
    ]
    if not all(WORK - SOONER <= seconds < WORK + 1.0 for seconds in slept):
        more.append(Breach("wait", "-", f"a sleep of {WORK} s took {max(slept):.1f} s"))
    case.judge(more=more, faults=1, note=f"clock set by {jump:+.0f} s: no run is begun again")
    assert {row["outcome"] for row in case.history().attempts} == {"completed"}
