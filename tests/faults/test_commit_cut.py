"""The connection breaks in the middle of a COMMIT, again and again."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter

import pytest
from sqlalchemy import func, select

from jobdeck.client import Client
from jobdeck.store.schema import run_logs, runs
from tests.faults.case import LONG_LEASE, Case
from tests.faults.invariants import Breach
from tests.faults.outages import behind_proxy
from tests.faults.proxy import CommitCut
from tests.faults.workers import merged

pytestmark = pytest.mark.parametrize("database_kind", ["postgresql"])

SEED = 20260402
SETTINGS = merged(LONG_LEASE, {"runner": {"concurrency": 20}})
KINDS = ("claim", "enqueue", "finish", "report")
# Cuts at each of the four places of each of the four kinds of commit.
SHORT, WHOLE = 1, 7
ENQUEUERS = 4


class Cutter:
    """Decides which COMMITs are cut: so many of each kind at each place, one in three of those that would do."""

    def __init__(self, case: Case, times: int) -> None:
        self._case = case
        self._left = {(kind, cut): times for kind in KINDS for cut in CommitCut}
        self._draw = random.Random(SEED)
        self._lock = threading.Lock()
        self.made: Counter[str] = Counter()

    def __call__(self, kinds: frozenset[str]) -> CommitCut | None:
        with self._lock:
            found = [key for key, left in self._left.items() if left and key[0] in kinds]
            if not found or self._draw.random() > 1 / 3:
                return None
            kind, cut = self._draw.choice(found)
            self._left[kind, cut] -= 1
            self.made[kind] += 1
        self._case.ledger.fault(f"cut the commit of a {kind}: {cut}")
        return cut

    @property
    def done(self) -> bool:
        return not any(self._left.values())


async def test_r07_cut_in_the_commit(case: Case) -> None:
    """COMMITs of claims, outcomes, enqueues and reports lose their connection before, while and after they are sent.

    Every enqueue gives its id, every run is done once and by its first attempt, every line is there once.
    """
    times = case.size.of(SHORT, WHOLE)
    with behind_proxy(case) as proxy:
        cutter = Cutter(case, times)
        async with case.client(SETTINGS) as client:
            workers = [case.workers.start(settings=SETTINGS) for _ in range(2)]
            await case.enqueue(client, 4)
            await case.until(case.effects)
            proxy.wanted = cutter
            waits = await asyncio.gather(*(_enqueue(case, client, cutter) for _ in range(ENQUEUERS)))
            proxy.wanted = lambda kinds: None
            await case.settled()
    longest = max(max(some) for some in waits)
    refused = [worker.said().count("is refused") for worker in workers]
    cuts = ", ".join(f"{kind} {count}" for kind, count in sorted(cutter.made.items()))
    history = case.judge(
        more=list(_lines(case)),
        recovery=longest,
        note=f"cut: {cuts}; an id came after {longest:.1f} s at most",
    )
    assert len(proxy.cuts) == 4 * len(KINDS) * times
    assert {(row["attempt"], row["outcome"]) for row in history.attempts} == {(1, "completed")}
    assert len(case.effects()) == len(history.attempts) == len(history.runs)
    assert refused == [0, 0]
    assert all(worker.alive for worker in workers)


async def _enqueue(case: Case, client: Client, cutter: Cutter) -> list[float]:
    """One run after the other until everything has been cut; how long each id took."""
    waits = []
    while not cutter.done:
        asked_at = time.monotonic()
        await case.enqueue(client, 1, "speaks", seconds=0.02)
        waits.append(time.monotonic() - asked_at)
    return waits


def _lines(case: Case) -> list[Breach]:
    """Every run of `speaks` has said its two lines, and each once."""
    query = (
        select(runs.c.id, func.count(run_logs.c.id))
        .select_from(runs.outerjoin(run_logs, run_logs.c.run_id == runs.c.id))
        .where(runs.c.job_type == "speaks")
        .group_by(runs.c.id)
    )
    with case.connection() as conn:
        found = conn.execute(query).all()
    return [Breach("I1", run_id.hex, f"has {lines} lines of 2") for run_id, lines in found if lines != 2]
