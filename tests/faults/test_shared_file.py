"""One SQLite file, several processes: who writes, who waits, who reads for too long."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from jobdeck.errors import DatabaseUnavailable
from tests.faults.case import Case
from tests.faults.invariants import Breach

pytestmark = pytest.mark.parametrize("database_kind", ["sqlite"])

WORKERS = 4
# Seconds: how long the foreign process writes, the lease, and how long jobdeck waits for the file.
LOCK_SHORT = (4.0, 2.0, 1.5)
LOCK_WHOLE = (20.0, 5.0, 5.0)
CLAIMS_SHORT, CLAIMS_WHOLE = 100, 2_000


@contextmanager
def foreign(case: Case, begin: str) -> Iterator[sqlite3.Connection]:
    """Another program with a transaction open on the file."""
    connection = sqlite3.connect(case.file, isolation_level=None, timeout=10, check_same_thread=False)
    connection.execute(begin)
    try:
        yield connection
    finally:
        connection.close()


async def test_r11_locked_by_another_process(case: Case) -> None:
    """A foreign process writes for long: clients are told in time, no loop blocks, workers recover alone."""
    seconds, lease, busy = case.size.of(LOCK_SHORT, LOCK_WHOLE)
    settings = {"runner": {"lease": f"{lease}s"}, "database": {"busy_timeout": f"{busy}s"}}
    async with case.client(settings) as client:
        for _ in range(2):
            case.workers.start(settings=settings)
        await case.enqueue(client, 20, seconds=0.2)
        await case.until(case.effects)
        lag = asyncio.create_task(_longest_lag())
        with foreign(case, "BEGIN IMMEDIATE"):
            case.ledger.fault("lock the file")
            over = time.monotonic() + seconds
            waits: list[float] = []
            while time.monotonic() < over:
                asked_at = time.monotonic()
                with pytest.raises(DatabaseUnavailable):
                    await client.runs.enqueue("work", {"key": f"refused-{len(waits)}"})
                waits.append(time.monotonic() - asked_at)
        free_at = time.monotonic()
        lag.cancel()
        await case.settled()
        recovery = time.monotonic() - free_at
        await case.enqueue(client, 5)
        await case.settled()
    longest = await lag
    more = []
    if max(waits) > busy + 1.0:
        more.append(Breach("answer", "-", f"a client waited {max(waits):.1f} s for its refusal"))
    if longest > 1.0:
        more.append(Breach("loop", "-", f"a client's loop was blocked for {longest:.1f} s"))
    history = case.judge(
        more=more,
        recovery=recovery,
        note=f"refused after {max(waits):.1f} s at most; longest loop lag {longest * 1000:.0f} ms",
    )
    assert len(history.runs) == 25
    assert len(case.workers.alive) == 2


async def _longest_lag() -> float:
    """How late a sleep of 10 ms ended at most, until it is cancelled."""
    longest = 0.0
    while True:
        before = time.monotonic()
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            return longest
        longest = max(longest, time.monotonic() - before - 0.01)


async def test_r12_four_processes_share_the_work(case: Case) -> None:
    """Four workers, nothing broken: each run once, not one warning, and each process does 15 % and more."""
    runs = WORKERS * case.size.of(CLAIMS_SHORT, CLAIMS_WHOLE)
    async with case.client() as client:
        for _ in range(WORKERS):
            case.workers.start()
        await case.until(lambda: len(case.history().workers) == WORKERS)
        await case.enqueue(client, runs, seconds=0.005)
        await case.settled(patience=300)
    done = Counter(entry.pid for entry in case.effects())
    shares = sorted(count / runs for count in done.values())
    history = case.judge(note="shares " + ", ".join(f"{share:.0%}" for share in shares))
    assert len(history.attempts) == len(case.effects()) == runs
    assert not any("WARN" in worker.said() or "ERROR" in worker.said() for worker in case.workers.started)
    assert len(shares) == WORKERS
    assert shares[0] >= 0.15
