"""Runs that the worker cannot work on: a type it does not know, params that its handler no longer takes."""

from __future__ import annotations

import time
from functools import partial

from sqlalchemy import text

from tests.faults.case import POLL, Case
from tests.faults.invariants import prompt

PROBES = 5


async def test_r30_unknown_types_and_old_params(case: Case) -> None:
    """An unknown type waits and burns nothing, bad params end the run by policy, the neighbours do not notice."""
    bad, good = case.size.of((5, 20), (200, 1_000))
    async with case.client() as client:
        unknown = await case.enqueue(client, bad)
        invalid = await case.enqueue(client, bad, "old_params")
        _spoil(case)
        case.workers.start()
        await case.until(lambda: case.history().workers)
        await case.enqueue(client, good)
        await case.until(lambda: _count(case, "completed") == good and _count(case, "failed") == bad)
        since = time.monotonic()
        for number in range(PROBES):
            await case.enqueue(client)
            await case.until(partial(_done, case, good + number + 1))
        shown = await client.runs.show(unknown[0])
        left = case.history()
        for run_id in unknown:
            await client.runs.cancel(run_id)
    more = list(prompt(case.ledger.read(), case.history(), since=since, poll=POLL))
    history = case.judge(faults=2 * bad, more=more)
    assert shown.label == "held"
    assert "gone" in (shown.held_reason or "")
    ended = {row["id"]: (row["status"], row["failure_kind"], row["attempt"]) for row in history.runs}
    assert {ended[run_id] for run_id in invalid} == {("failed", "invalid_params", 1)}
    waiting = {row["id"]: (row["status"], row["attempt"], row["failures"]) for row in left.runs}
    assert {waiting[run_id] for run_id in unknown} == {("pending", 0, 0)}


def _done(case: Case, count: int) -> bool:
    return len(case.effects()) == count


def _spoil(case: Case) -> None:
    """Make what is stored into what an older version might have stored."""
    with case.connection() as conn:
        conn.execute(text("UPDATE runs SET job_type = 'gone' WHERE job_type = 'work'"))
        conn.execute(text("""UPDATE runs SET params = '{"name": 1}' WHERE job_type = 'old_params'"""))


def _count(case: Case, status: str) -> int:
    return sum(row["status"] == status for row in case.history().runs)
