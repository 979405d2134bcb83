"""Limits hold across all workers: what really ran at the same time, told by the handlers and not by the database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import text

from jobdeck.client import Client
from tests.faults.case import LONG_LEASE, Case
from tests.faults.invariants import Breach
from tests.faults.ledger import Entry

WORKERS = 4
# Runs of a job with max_concurrency, of one with a limit for each key, of one with a rate; 2,000 in all. The last
# figure is the window of the rate in seconds: two of them are filled.
SHORT = (150, 210, 40, 4)
WHOLE = (700, 1_260, 40, 10)
FEW, KEYS = 3, 21
RATE = 20


async def test_l01_limits_across_workers(case: Case) -> None:
    """Four workers never exceed max_concurrency 3 of a job, 1 of a key, nor 20 starts in the window of a rate.

    At the same time they do not serialise what may run side by side.
    """
    few, keyed, rated, window = case.size.of(SHORT, WHOLE)
    async with case.client() as client:
        plain: dict[str, Any] = {"type": "work", "params": {"seconds": 0.005}}
        await _fill(case, client, "few", few, plain | {"max_concurrency": FEW})
        await _fill(case, client, "key", keyed // 2, plain | {"max_concurrency_per_key": 1}, keys=KEYS)
        # A second one with keys: whoever ends runs of one claims behind both.
        await _fill(case, client, "also", keyed - keyed // 2, plain | {"priority": 4}, keys=KEYS)
        await _fill(
            case, client, "rate", rated, plain | {"rate_limit": {"max": RATE, "window": f"{window}s"}}
        )
        for _ in range(WORKERS):
            case.workers.start(settings=LONG_LEASE)
        await case.settled(300)
    effects = case.effects()
    names = [f"{job}-{number}-" for job in ("key", "also") for number in range(KEYS)]
    groups = {name: _of(effects, name) for name in names}
    most = {name: _most_at_once(found) for name, found in groups.items()}
    together = _most_at_once(effects)
    few_at_once = _most_at_once(_of(effects, "few-"))
    more = [Breach("L1", name, f"{count} at once") for name, count in most.items() if count > 1]
    if few_at_once > FEW:
        more.append(Breach("L1", "few", f"{few_at_once} at once"))
    started = sorted(row["started_at"] for row in case.history().runs if '"rate-' in row["params"])
    more += list(_too_often(started, window))
    if case.kind == "postgresql":
        with case.connection() as conn:
            of_database = text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
            if deadlocks := conn.execute(of_database).scalar_one():
                more.append(Breach("L2", "-", f"{deadlocks} deadlocks"))
    workers = len({entry.pid for entry in effects})
    note = f"{workers} workers; at once: job {few_at_once}, key {max(most.values())}, all {together}"
    history = case.judge(more=more, faults=0, note=note)
    assert {row["status"] for row in history.runs} == {"completed"}
    assert (few_at_once, workers) == (FEW, WORKERS)
    assert together > FEW


async def _fill(
    case: Case, client: Client, name: str, count: int, definition: Mapping[str, Any], keys: int = 0
) -> None:
    job = await client.jobs.create(name, definition)
    wanted = [f"{name}-{number % keys if keys else 0}-{number}" for number in range(count)]
    case.ledger.asked(*wanted)
    made = await asyncio.gather(
        *(
            client.jobs.trigger(job.id, {"key": key}, concurrency_key=key.split("-")[1] if keys else None)
            for key in wanted
        )
    )
    case.ledger.enqueued({key: run.id for key, run in zip(wanted, made, strict=True)})


def _of(effects: Iterable[Entry], prefix: str) -> list[Entry]:
    return [entry for entry in effects if (entry.key or "").startswith(prefix)]


def _most_at_once(effects: Iterable[Entry]) -> int:
    """By the monotonic clock, which all processes of the machine share."""
    steps: list[tuple[float, int]] = []
    for entry in effects:
        assert entry.start is not None
        assert entry.end is not None
        steps += [(entry.start, 1), (entry.end, -1)]
    most = now = 0
    for _, step in sorted(steps):
        now += step
        most = max(most, now)
    return most


def _too_often(started: list[int], window: int) -> Iterator[Breach]:
    """Stretches of the window's length (seconds) with too many starts, by the database's clock."""
    for first, last in zip(started, started[RATE:], strict=False):
        if last - first < window * 1_000_000:
            yield Breach("L1", "rate", f"{RATE + 1} starts in {(last - first) / 1e6:.2f} s")
