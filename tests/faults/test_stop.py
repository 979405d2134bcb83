"""Workers that are told to stop while runs of every kind are under way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pytest

from tests.faults.case import Case
from tests.faults.invariants import Breach
from tests.faults.workers import Worker

# Seconds of grace; the runs last 0.1, 6 and 9 of them.
SHORT, WHOLE = 2.0, 10.0
# After the grace the handlers are interrupted (2 s), given up (2 s), and the worker signs off; SQLite may wait for 5 s.
MARGIN = 9.0
LEASE = 2.0


@pytest.mark.parametrize("signals", [1, 2])
async def test_r21_stop(case: Case, signals: int) -> None:
    """What can end in the grace ends; the rest is given back, no attempt burnt; beats go on until the end.

    With a second signal nobody waits for the grace.
    """
    grace = case.size.of(SHORT, WHOLE)
    settings = {"runner": {"shutdown_grace": f"{grace}s", "lease": f"{LEASE}s"}}
    async with case.client() as client:
        (short,) = await case.enqueue(client, seconds=0.1 * grace if signals == 1 else 0.0)
        (long,) = await case.enqueue(client, seconds=6 * grace)
        (stubborn,) = await case.enqueue(client, 1, "deaf", seconds=9 * grace, options={"max_attempts": 3})
        worker = case.workers.start(settings=settings)
        await case.until(lambda: _statuses(case).get(stubborn) == "running")
        if signals == 2:
            await case.until(case.effects)
        begun = time.monotonic()
        worker.terminate()
        if signals == 2:
            await case.until(lambda: any(row["state"] == "draining" for row in case.history().workers))
            worker.terminate()
        beaten = asyncio.create_task(_all_beaten(case, worker))
        code = await asyncio.to_thread(worker.wait)
        took = time.monotonic() - begun
        most = (grace if signals == 1 else 0.0) + MARGIN
        more = [] if took <= most else [Breach("exit", "-", f"the worker took {took:.1f} s to stop")]
        if not await beaten:
            more.append(Breach("beat", "-", "a lease ran out while the worker was still stopping"))
        left = case.history()
        for run_id in (long, stubborn):
            await client.runs.cancel(run_id)
        note = f"{signals} x SIGTERM: exit after {took:.1f} s"
        history = case.judge(more=more, faults=signals, recovery=took, note=note)
    assert code == 0, worker.said()
    outcomes = {row["run_id"]: row["outcome"] for row in history.attempts}
    assert outcomes == {short: "completed", long: "interrupted", stubborn: "interrupted"}
    given_back = {row["id"]: (row["status"], row["failures"], row["crash_count"]) for row in left.runs}
    assert given_back[long] == given_back[stubborn] == ("pending", 0, 0)
    assert given_back[short][0] == "completed"


def _statuses(case: Case) -> Mapping[UUID, Any]:
    return {row["id"]: row["status"] for row in case.history().runs}


async def _all_beaten(case: Case, worker: Worker) -> bool:
    """Whether no lease had run out at any time until the worker was gone."""
    while worker.alive:
        history = await asyncio.to_thread(case.history)
        if any(row["lease_until"] <= history.now for row in history.leases):
            return False
        await asyncio.sleep(0.05)
    return True
