"""One SQLite file, several processes: who writes, who waits, who reads for too long."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from jobdeck.client import Client
from jobdeck.errors import DatabaseUnavailable
from jobdeck.model import RunFilter
from jobdeck.store.sqlite import wal
from tests.faults.case import LONG_LEASE, Case
from tests.faults.invariants import Breach
from tests.faults.leaks import holdings, nothing_leaked, wal_bounded
from tests.faults.workers import Worker

pytestmark = pytest.mark.parametrize("database_kind", ["sqlite"])

WORKERS = 4
# Seconds: how long the foreign process writes, the lease, and how long jobdeck waits for the file.
LOCK_SHORT = (3.0, 2.0, 1.0)
LOCK_WHOLE = (20.0, 5.0, 5.0)
CLAIMS_SHORT, CLAIMS_WHOLE = 100, 1_000


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
        worker, _ = (case.workers.start(settings=settings) for _ in range(2))
        await case.enqueue(client, 20, seconds=0.2)
        await case.until(case.effects)
        before = holdings(worker.pid)
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
        more = list(nothing_leaked(before, holdings(worker.pid)))
    longest = await lag
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
            case.workers.start(settings=LONG_LEASE)
        await case.until(lambda: len(case.history().workers) == WORKERS)
        await case.enqueue(client, runs, seconds=0.005)
        await case.settled(patience=300)
    done = Counter(entry.pid for entry in case.effects())
    shares = sorted(count / runs for count in done.values())
    history = case.judge(note="shares " + ", ".join(f"{share:.0%}" for share in shares))
    assert len(history.attempts) == len(case.effects()) == runs
    assert [line for worker in case.workers.started for line in _complaints(worker)] == []
    assert len(shares) == WORKERS
    assert shares[0] >= 0.15


def _complaints(worker: Worker) -> list[str]:
    """Warnings and errors in its log, but for the one of an old SQLite."""
    lines = worker.said().splitlines()
    return [line for line in lines if ("WARN" in line or "ERROR" in line) and "WAL-reset" not in line]


# Seconds of a reader that does not end, and how much is written meanwhile.
READER_SHORT, READER_WHOLE = 2.0, 30.0
WRITTEN = 96 * 1024 * 1024
_PIECE = 1024 * 1024
# Seconds in which the log must have its size again.
SHRUNK = 60.0


async def test_r13_a_reader_that_does_not_end(case: Case) -> None:
    """An open read transaction makes the write-ahead log grow: workers and doctor say so, and it shrinks after.

    A client that looks at the list all the while, as the console does, is not what keeps it.
    """
    seconds = case.size.of(READER_SHORT, READER_WHOLE)
    async with case.client() as client:
        worker = case.workers.start()
        watching = asyncio.create_task(_watch(client))
        await case.enqueue(client, case.size.of(20, 2_000), seconds=0.05)
        with foreign(case, "BEGIN") as reader:
            reader.execute("SELECT count(*) FROM runs").fetchall()
            case.ledger.fault("read for ever")
            over = time.monotonic() + seconds
            await asyncio.to_thread(_bulk, case)
            largest = wal.size_of(case.file)
            await case.until(lambda: "write-ahead log" in worker.said())
            doctor = case.workers.start(command="doctor")
            await asyncio.to_thread(doctor.wait)
            await case.until(lambda: time.monotonic() > over)
        closed_at = time.monotonic()
        await case.until(lambda: not list(wal_bounded(case.file)), patience=SHRUNK)
        recovery = time.monotonic() - closed_at
        await case.settled()
        watching.cancel()
    case.judge(
        more=list(wal_bounded(case.file)),
        recovery=recovery,
        note=f"write-ahead log {largest // _PIECE} MiB, then {wal.size_of(case.file) // _PIECE} MiB",
    )
    assert largest > wal.ALARM_BYTES
    assert wal.ADVICE in worker.said()
    assert wal.ADVICE in doctor.said()


def _bulk(case: Case) -> None:
    """Write much, in transactions as small as jobdeck's larger ones."""
    with foreign(case, "BEGIN IMMEDIATE") as writer:
        writer.execute("CREATE TABLE bulk (data BLOB)")
        writer.execute("COMMIT")
        for _ in range(WRITTEN // _PIECE):
            writer.execute("INSERT INTO bulk VALUES (zeroblob(?))", (_PIECE,))


async def _watch(client: Client) -> None:
    while True:
        await client.runs.list(RunFilter(), limit=100)
        await client.changed(0.5)
