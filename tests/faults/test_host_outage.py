"""A host that many runs call is down, then busy, then back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from tests.faults.case import Case
from tests.faults.history import History
from tests.faults.host import Asked, Host, listening
from tests.faults.invariants import Breach

PER_HOST = 4
SETTINGS = {"http": {"allow": ["127.0.0.1/32"], "per_host": PER_HOST}, "runner": {"concurrency": 50}}
RETRY_AFTER = 2
FIRST_STEP = 2.0
"""Seconds; the first step of the backoff of `http`."""
# Runs, and seconds of each of the two halves of the outage.
SHORT = (30, 1.5)
WHOLE = (1_000, 20.0)
SAMPLE = 10
# Seconds that a request may have been on its way when the pause was asked for.
_ON_ITS_WAY = 0.25


async def test_r18_one_host_down_then_busy(case: Case) -> None:
    """The host answers 500, then 429 with Retry-After, then 200: it is spared, and every run completes."""
    runs, seconds = case.size.of(SHORT, WHOLE)
    async with listening() as host, case.client(SETTINGS) as client:
        host.status = 500
        params = [{"url": host.url, "method": "GET"}] * runs
        ids = await client.runs.trigger_many("http", params, max_attempts=50)
        case.ledger.enqueued({f"R18-{number}": run_id for number, run_id in enumerate(ids)})
        case.workers.start(settings=SETTINGS)
        await case.until(lambda: host.asked)
        # As soon as some have failed once and wait for their second attempt.
        early = await case.until(lambda: _failed_once(case))
        await asyncio.sleep(seconds)
        host.status, host.retry_after = 429, RETRY_AFTER
        await asyncio.sleep(seconds)
        host.status, host.retry_after = 200, None
        await case.until(lambda: len(host.answered(200)) >= runs, patience=240)
        await case.settled()
        history = case.history()
        most = 1 + max(asked.beside for asked in host.asked)
        refused = len(host.answered(500, 429))
        case.judge(
            more=[*_spared(host, most), *_jittered(early)],
            faults=refused,
            note=f"at most {most} in flight (cap {PER_HOST}); {refused / (2 * seconds):.0f} requests/s while down",
        )
        assert {row["status"] for row in history.runs} == {"completed"}
        assert len(host.answered(200)) == runs


def _failed_once(case: Case) -> History | None:
    """The tables, once some runs wait for their second attempt."""
    history = case.history()
    waiting = [run for run in history.runs if run["status"] == "pending" and run["failures"] == 1]
    return history if len(waiting) >= SAMPLE else None


def _spared(host: Host, most: int) -> Iterator[Breach]:
    if most > PER_HOST:
        yield Breach("cap", "-", f"{most} requests at a time, {PER_HOST} allowed")
    if intruders := list(_intruders(host.asked)):
        yield Breach("pause", "-", f"{len(intruders)} requests came in spite of Retry-After")


def _intruders(asked: Sequence[Asked]) -> Iterator[Asked]:
    """Requests that came in a pause that had been asked for before they were sent."""
    pauses = [each.answered_at for each in asked if each.status == 429]
    for each in asked:
        if any(begin + _ON_ITS_WAY < each.came_at < begin + RETRY_AFTER for begin in pauses):
            yield each


def _jittered(history: History) -> Iterator[Breach]:
    """The waits after first failures fill the first step of the backoff instead of all being the same."""
    failed_at = {row["run_id"]: row["finished_at"] for row in history.attempts if row["fence"] == 1}
    waits = [
        (run["due_at"] - failed_at[run["id"]]) / 1_000_000
        for run in history.runs
        if run["status"] == "pending" and run["failures"] == run["attempt"] == 1
    ]
    if not waits or min(waits) < 0 or max(waits) > FIRST_STEP or max(waits) - min(waits) < FIRST_STEP / 2:
        yield Breach("jitter", "-", f"the waits after a failure are not spread: {sorted(waits)}")
