"""Cancels and timeouts of runs in every state, and handlers that do not listen."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from uuid import UUID

import pytest

from jobdeck.client import Client
from jobdeck.errors import NotCancellable
from jobdeck.model import CancelEffect
from tests.faults.case import Case
from tests.faults.invariants import Breach
from tests.faults.leaks import holdings, nothing_leaked


async def test_r23_cancel_in_every_status(case: Case) -> None:
    """Waiting runs end at once, running ones are asked, ended ones say how they ended; a second ask changes nothing.

    A handler that never looks and returns its result is completed, with the request kept.
    """
    count = case.size.of(1, 10)
    async with case.client() as client:
        later = await case.enqueue(client, count, options={"delay": timedelta(hours=1)})
        elsewhere = await case.enqueue(client, count, options={"queue": "nobody"})
        for run_id in (*later, *elsewhere):
            reply = await client.runs.cancel(run_id, reason="first")
            assert (reply.cancelled, reply.effect) == (True, CancelEffect.NOW)
            with pytest.raises(NotCancellable):
                await client.runs.cancel(run_id)
        case.workers.start("--queue", "default", settings={"runner": {"concurrency": 4 * count}})
        done = await case.enqueue(client, count)
        polite = await case.enqueue(client, count, seconds=60)
        rude = await case.enqueue(client, count, "ignores", seconds=4)
        await case.until(lambda: len(case.history().leases) == 2 * count and len(case.effects()) == count)
        for run_id in (*polite, *rude):
            reply = await client.runs.cancel(run_id, reason="first")
            assert (reply.cancelled, reply.effect) == (False, CancelEffect.REQUESTED)
            await _ask_again(client, run_id)
        for run_id in done:
            with pytest.raises(NotCancellable, match="completed"):
                await client.runs.cancel(run_id)
        await case.settled()
        for run_id in (*polite, *rude):
            with pytest.raises(NotCancellable):
                await client.runs.cancel(run_id)
    history = case.judge(faults=5 * count)
    statuses = {row["id"]: row["status"] for row in history.runs}
    assert {statuses[run_id] for run_id in (*later, *elsewhere, *polite)} == {"cancelled"}
    assert {statuses[run_id] for run_id in (*done, *rude)} == {"completed"}
    reasons = {row["id"]: row["cancel_reason"] for row in history.runs}
    assert {reasons[run_id] for run_id in reasons if run_id not in done} == {"first"}
    asked = {row["id"] for row in history.runs if row["cancel_requested_at"] is not None}
    assert asked == set(statuses) - set(done)


async def _ask_again(client: Client, run_id: UUID) -> None:
    """The answer is the same, or that it has been cancelled meanwhile."""
    with suppress(NotCancellable):
        again = await client.runs.cancel(run_id, reason="second")
        assert (again.cancelled, again.effect) == (False, CancelEffect.REQUESTED)


async def test_r24_timeout_of_a_deaf_handler(case: Case) -> None:
    """A handler swallows its cancellation: the run fails once, its slot is free, its result is refused."""
    count = case.size.of(2, 10)
    slots = 2
    async with case.client() as client:
        worker = case.workers.start(settings={"runner": {"concurrency": slots}})
        await case.enqueue(client, slots)
        await case.settled()
        before = holdings(worker.pid)
        options = {"timeout": timedelta(seconds=1)}
        deaf = await case.enqueue(client, count, "deaf", seconds=4, options=options)
        after = await case.enqueue(client, 2 * slots)
        await case.settled()
        # Their effects come long after the runs have ended.
        await case.until(lambda: len(case.effects()) == slots + count + len(after))
        await case.enqueue(client, 1)
        await case.settled()
        more = [*_failed_once(case, count), *nothing_leaked(before, holdings(worker.pid))]
    history = case.judge(faults=count, more=more)
    ended = {row["id"]: (row["status"], row["failure_kind"], row["result"]) for row in history.runs}
    assert {ended[run_id] for run_id in deaf} == {("failed", "timed_out", None)}
    assert {ended[run_id][0] for run_id in after} == {"completed"}
    assert len(case.workers.alive) == 1


def _failed_once(case: Case, count: int) -> list[Breach]:
    timed_out = [row["run_id"] for row in case.history().attempts if row["outcome"] == "timed_out"]
    if len(timed_out) == len(set(timed_out)) == count:
        return []
    return [Breach("I3", "-", f"{count} runs have {len(timed_out)} timeouts")]
