"""Many runs that all have something to say, over few connections."""

from __future__ import annotations

import asyncio
import json
import time

from sqlalchemy import func, select, text

from jobdeck.store.schema import run_logs, runs
from tests.faults.case import LONG_LEASE, Case
from tests.faults.invariants import Breach
from tests.faults.workers import merged

RUNS, POOL = 50, 5
# Beside the pool: two connections that write, one for hints and one that listens.
MOST = POOL + 4
# Seconds for which the handlers talk.
SHORT, WHOLE = 3.0, 60.0
_SESSIONS = text(
    "SELECT count(*), count(*) FILTER (WHERE state = 'idle in transaction' AND state_change < now() - interval '1 s')"
    " FROM pg_stat_activity WHERE application_name = 'jobdeck' AND datname = current_database()"
)


async def test_r17_fifty_runs_over_five_connections(case: Case) -> None:
    """50 runs log, report, checkpoint and look at their lease all the time, over a pool of 5: nothing waits in vain."""
    settings = merged(
        LONG_LEASE, {"runner": {"concurrency": RUNS}, "database": {"pool_size": POOL, "busy_timeout": "5s"}}
    )
    async with case.client(settings) as client:
        await case.enqueue(client, RUNS, "chats", seconds=case.size.of(SHORT, WHOLE))
    case.ledger.fault(f"{RUNS} runs at once")
    worker = case.workers.start(settings=settings)
    await case.until(lambda: len(case.history().leases) == RUNS)
    begun = time.monotonic()
    seen = await _watched(case, begun)
    more = [
        *(Breach("I11", "-", f"{sessions} sessions") for sessions, _ in seen if sessions > MOST),
        *(Breach("I11", "-", f"{idle} transactions wait for a handler") for _, idle in seen if idle),
        *_unsaid(case),
    ]
    complaints = [
        line for line in worker.said().splitlines() if "SQLite" not in line and " INFO " not in line
    ]
    note = f"{max((sessions for sessions, _ in seen), default=0)} sessions at most" if seen else ""
    history = case.judge(more=more, note=note)
    assert {row["status"] for row in history.runs} == {"completed"}
    assert len(case.effects()) == RUNS
    assert complaints == []


async def _watched(case: Case, begun: float) -> list[tuple[int, int]]:
    """Sessions of the worker, and those of them that idle in a transaction, seen again and again until all is done."""
    seen: list[tuple[int, int]] = []
    while True:
        if case.kind == "postgresql":
            with case.connection() as conn:
                seen.append(tuple(conn.execute(_SESSIONS).one()))
        if not case.history().leases and time.monotonic() > begun + 1.0:
            return seen
        await asyncio.sleep(0.1)


def _unsaid(case: Case) -> list[Breach]:
    """Every line that a handler has written is stored, and once."""
    query = (
        select(runs.c.id, runs.c.result, func.count(run_logs.c.id))
        .select_from(runs.outerjoin(run_logs, run_logs.c.run_id == runs.c.id))
        .group_by(runs.c.id, runs.c.result)
    )
    with case.connection() as conn:
        found = conn.execute(query).all()
    return [
        Breach("I1", run_id.hex, f"{stored} of {result} lines are stored")
        for run_id, result, stored in found
        if json.loads(result or "0") != stored
    ]
