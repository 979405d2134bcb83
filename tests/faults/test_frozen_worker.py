"""A worker that is frozen after its effect, loses its lease, and wakes up."""

from __future__ import annotations

import asyncio
import time

from jobdeck.ids import show_id
from tests.faults.case import Case
from tests.faults.killpoints import Action, KillPoint
from tests.faults.ledger import Kind, of_kind

# Seconds of lease and of ice. The handler takes 40 % of a lease.
SHORT = (2.0, 3.5)
WHOLE = (5.0, 15.0)


async def test_r04_frozen_after_its_effect(case: Case) -> None:
    """Another worker completes the run; what the woken one brings is refused, and no status flips."""
    lease, ice = case.size.of(SHORT, WHOLE)
    settings = {"runner": {"lease": f"{lease}s", "concurrency": 1}}
    async with case.client() as client:
        (run_id,) = await case.enqueue(client, seconds=0.4 * lease)
        frozen = case.workers.start(settings=settings, kill=KillPoint("handler.end", 1, Action.FREEZE))
        await case.until(lambda: of_kind(case.ledger.read(), Kind.FAULT))
        frozen_at = time.monotonic()
        case.workers.start(settings=settings)
        await case.settled()
        before = case.history()
        await asyncio.sleep(max(0.0, frozen_at + ice - time.monotonic()))
        frozen.thaw()
        # Either its heart finds out first, or the outcome it brings is refused.
        told = (f"lease lost on {show_id('run', run_id)}", f"the lease on {show_id('run', run_id)} was lost")
        await case.until(lambda: any(words in frozen.said() for words in told))
        after = case.judge()
    assert [row["outcome"] for row in after.attempts] == ["crashed", "completed"]
    assert len(case.effects()) == 2
    for table in ("runs", "attempts", "events", "leases"):
        assert getattr(after, table) == getattr(before, table)
    assert frozen.alive
