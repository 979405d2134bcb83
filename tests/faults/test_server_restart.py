"""A PostgreSQL server that is stopped without warning and started again."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Sequence

import pytest

from jobdeck.client import Client
from jobdeck.errors import DatabaseUnavailable
from tests.faults.case import Case
from tests.faults.invariants import Breach, prompt
from tests.faults.leaks import Holdings, holdings, nothing_leaked
from tests.faults.ledger import Entry, Kind, of_kind
from tests.faults.workers import Worker
from tests.postgres import PostgresServer

SEED = 20260403
WORKERS, SLOTS = 8, 4
SETTINGS = {"runner": {"lease": "6s", "concurrency": SLOTS, "poll": "500ms"}}
POLL = 0.5
# Seconds between two restarts, and how many there are; the whole form goes on for five minutes.
SHORT = ((2.0, 3.0), 2)
WHOLE = ((5.0, 40.0), 13)
# Runs whose time is that of their handlers, so that it tells whether all workers are at work again.
BATCH_SHORT, BATCH_WHOLE, WORK = 160, 640, 0.2


@pytest.fixture(autouse=True)
def database_kind() -> str:
    """These cases are about servers."""
    return "postgresql"


async def test_r08_restarted_under_load(server_case: Case, own_server: PostgresServer) -> None:
    """Eight workers under load, the server restarted again and again: no process ends, nothing is lost, it drains."""
    case = server_case
    (low, high), restarts = case.size.of(SHORT, WHOLE)
    draw = random.Random(SEED)
    async with case.client(SETTINGS) as client:
        workers = [case.workers.start(settings=SETTINGS) for _ in range(WORKERS)]
        await case.until(lambda: len(case.history().workers) == WORKERS)
        before = await _batch(case, client)
        held = {worker.pid: holdings(worker.pid) for worker in workers}
        over = asyncio.Event()
        load = asyncio.create_task(_load(case, client, over))
        back = []
        for _ in range(restarts):
            await asyncio.sleep(draw.uniform(low, high))
            case.ledger.fault("restart the server")
            await asyncio.to_thread(own_server.stop)
            await asyncio.to_thread(own_server.start)
            back.append(time.monotonic())
        await case.until(lambda: bool(_effects_after(case.ledger.read(), back[-1])))
        over.set()
        refused = await load
        await case.settled(patience=300)
        after = await _batch(case, client)
        well = time.monotonic()
        await case.enqueue(client, 5)
        await case.settled()
        entries = case.ledger.read()
        more = [*prompt(entries, case.history(), since=well, poll=POLL), *_leaks(workers, held)]
    history = case.judge(
        more=more,
        recovery=max(_pauses(entries, back)),
        throughput=before / after,
        note=f"{WORKERS} workers; {refused} enqueues refused meanwhile",
    )
    assert {row["status"] for row in history.runs} == {"completed"}
    assert len(case.workers.alive) == WORKERS
    assert before / after > 0.8


async def _batch(case: Case, client: Client) -> float:
    """Seconds for a batch that keeps every slot at work."""
    begun = time.monotonic()
    await case.enqueue(client, case.size.of(BATCH_SHORT, BATCH_WHOLE), seconds=WORK)
    await case.settled()
    return time.monotonic() - begun


async def _load(case: Case, client: Client, over: asyncio.Event) -> int:
    """Ask for runs until it is over; how many were refused, of which none may be stored twice."""
    refused = 0
    for number in itertools.count():
        if over.is_set():
            break
        try:
            await case.enqueue(client, 1 + number % 5, seconds=0.05)
        except DatabaseUnavailable:
            refused += 1
        await asyncio.sleep(0.05)
    return refused


def _pauses(entries: Sequence[Entry], back: Sequence[float]) -> list[float]:
    """Seconds from each time the server was there again until the next effect."""
    return [_effects_after(entries, at)[0] - at for at in back]


def _effects_after(entries: Sequence[Entry], at: float) -> list[float]:
    ends = sorted(entry.end or 0.0 for entry in of_kind(entries, Kind.EFFECT))
    return [end for end in ends if end > at]


def _leaks(workers: Sequence[Worker], before: dict[int, Holdings]) -> list[Breach]:
    return [
        breach
        for worker in workers
        for breach in nothing_leaked(before[worker.pid], holdings(worker.pid), descriptors=8)
    ]
