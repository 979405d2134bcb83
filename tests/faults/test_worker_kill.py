"""Workers that are killed at random, again and again."""

from __future__ import annotations

import asyncio
import random
import time

from jobdeck.client import Client
from tests.faults.case import POLL, Case
from tests.faults.history import unsettled
from tests.faults.invariants import Breach, effects_per_second, prompt

SEED = 20260401
WORKERS = 4
SLOTS = 4
WORK = 0.2
"""Seconds of one run."""
# Seconds of kills; runs that wait, so that there is always work to be hit (16 slots do at most 240 between two kills);
# runs that measure the throughput before and after. In the whole form some 5,000 runs go through the kills; in the
# short one there is nothing to be measured.
SHORT = (4.0, 120, 0)
WHOLE = (120.0, 300, 960)
BRIEF = 0.1
"""Seconds of one of those."""
THROUGHPUT = 0.8
"""Least share of it that must be back."""


async def test_r03_random_kills(case: Case) -> None:
    """Four workers, one killed every 1-3 s and replaced at once: every run completes, no crash without a kill.

    Afterwards as much is done in a second as before, in the whole form.
    """
    seconds, ahead, measured = case.size.of(SHORT, WHOLE)
    draw = random.Random(SEED)
    kills = 0
    async with case.client() as client:
        for _ in range(WORKERS):
            case.workers.start()
        await case.until(lambda: len(case.history().workers) == WORKERS)
        before = await _runs_per_second(case, client, measured) if measured else 0.0
        over = time.monotonic() + seconds
        while time.monotonic() < over:
            if await asyncio.to_thread(unsettled, case.url) < ahead / 2:
                await case.enqueue(client, ahead, seconds=WORK)
            await asyncio.to_thread(draw.choice(case.workers.alive).kill)
            kills += 1
            case.workers.start()
            await asyncio.sleep(draw.uniform(1.0, 3.0))
        await case.settled()
        await case.until(lambda: len(case.workers.alive) == _signed_on(case))
        well = time.monotonic()
        await case.enqueue(client, WORKERS)
        await case.settled()
        more = list(prompt(case.ledger.read(), case.history(), since=well, poll=POLL))
        back = await _runs_per_second(case, client, measured) / before if measured else None
    if back is not None and back < THROUGHPUT:
        more.append(Breach("I6", "-", f"only {back:.0%} of the throughput is back"))
    history = case.judge(more=more, throughput=back)
    crashes = sum(row["outcome"] == "crashed" for row in history.attempts)
    assert {row["status"] for row in history.runs} == {"completed"}
    assert crashes <= kills * SLOTS
    # The few kills of the short form may all meet a worker that has nothing in hand yet.
    assert crashes > 0 or not measured


def _signed_on(case: Case) -> int:
    """Workers whose lease on life has not run out."""
    history = case.history()
    return sum(row["alive_until"] > history.now and row["state"] == "live" for row in history.workers)


async def _runs_per_second(case: Case, client: Client, count: int) -> float:
    """How fast a batch of short runs is done, from its asking to its last effect."""
    begun = time.monotonic()
    ids = {run_id.hex for run_id in await case.enqueue(client, count, seconds=BRIEF)}
    await case.settled()
    ended = max(entry.end or 0.0 for entry in case.effects() if entry.run in ids)
    return effects_per_second(case.ledger.read(), begun, ended + 0.001)
