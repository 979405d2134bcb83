"""Workers that are killed at random, again and again."""

from __future__ import annotations

import asyncio
import random
import time

from tests.faults.case import POLL, Case
from tests.faults.invariants import prompt

SEED = 20260401
WORKERS = 4
SLOTS = 4
WORK = 0.4
"""Seconds of one run: so the runs last about as long as the kills go on."""
# Seconds of kills, and how many runs wait for them.
SHORT = (5.0, 200)
WHOLE = (120.0, 5_000)


async def test_r03_random_kills(case: Case) -> None:
    """Four workers, one killed every 1-3 s and replaced at once: every run completes, no crash without a kill."""
    seconds, runs = case.size.of(SHORT, WHOLE)
    draw = random.Random(SEED)
    kills = 0
    async with case.client() as client:
        await case.enqueue(client, runs, seconds=WORK)
        for _ in range(WORKERS):
            case.workers.start()
        await case.until(case.effects)
        over = time.monotonic() + seconds
        while time.monotonic() < over:
            await asyncio.to_thread(draw.choice(case.workers.alive).kill)
            kills += 1
            case.workers.start()
            await asyncio.sleep(draw.uniform(1.0, 3.0))
        await case.settled()
        well = time.monotonic()
        await case.enqueue(client, 5)
        await case.settled()
    history = case.judge(more=list(prompt(case.ledger.read(), case.history(), since=well, poll=POLL)))
    crashes = sum(row["outcome"] == "crashed" for row in history.attempts)
    assert {row["status"] for row in history.runs} == {"completed"}
    assert 0 < crashes <= kills * SLOTS
