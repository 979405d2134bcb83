"""Handlers that block the loop they share, or hold the interpreter."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tests.faults.case import Case
from tests.faults.handlers import catastrophe
from tests.faults.history import History
from tests.faults.invariants import Breach

NEIGHBOURS = 18
# Seconds of a lease, and for how many of them the loop is blocked.
SHORT, WHOLE = (2.0, 1.5), (5.0, 3.0)


async def test_r05_blocked_loop(case: Case) -> None:
    """Among 20 runs one blocks the loop for three leases and one holds the interpreter: nobody's lease is lost.

    A third one holds an interpreter of its own, for longer than a lease.
    """
    lease, leases = case.size.of(SHORT, WHOLE)
    settings = {"runner": {"lease": f"{lease}s", "concurrency": 25}}
    chars = _chars_for(0.2 * lease)
    async with case.client() as client:
        case.workers.start("--queue", "default", settings=settings)
        # Somebody who would take over what seems to be left alone.
        case.workers.start("--queue", "other", settings=settings)
        await case.enqueue(client, NEIGHBOURS, seconds=(leases + 1) * lease)
        await case.enqueue(client, 1, "matches_apart", chars=chars + 3)
        await case.until(
            lambda: sum(row["status"] == "running" for row in case.history().runs) == NEIGHBOURS + 1
        )
        case.ledger.fault("block")
        await case.enqueue(client, 1, "matches", chars=chars)
        await case.enqueue(client, 1, "blocks", seconds=leases * lease)
        await case.until(lambda: any(row["stalled"] for row in case.history().workers))
        await case.settled()
        await case.until(lambda: not any(row["stalled"] for row in case.history().workers))
    history = case.judge(more=list(_all_kept(case.history())))
    assert len(history.attempts) == NEIGHBOURS + 3
    assert len(case.workers.alive) == 2


def _all_kept(history: History) -> Iterator[Breach]:
    for row in history.attempts:
        if row["outcome"] != "completed" or row["fence"] != 1:
            yield Breach("lease", row["run_id"].hex, f"{row['outcome']}: {row['error']}")


def _chars_for(seconds: float) -> int:
    """How many characters make a match last about that long here, and not more than that."""
    chars, took = 16, 0.0
    while took * 2 < seconds:
        chars += 1
        begun = time.monotonic()
        catastrophe(chars)
        took = time.monotonic() - begun
    return chars
