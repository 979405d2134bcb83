"""The database is away for a while in the middle of the work, and comes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import pytest

from tests.faults.case import Case
from tests.faults.history import History
from tests.faults.invariants import Breach, prompt
from tests.faults.outages import behind_proxy, cut_off, locked

RUNS = 50
POLL = 0.5
# Seconds: a lease of which half can be missed on a loaded machine, and one that is over soon.
MISSED_SHORT, MISSED_WHOLE, LOST = 6.0, 15.0, 3.0
# How long stopping may take beyond the grace while the server is silent.
STOP_MARGIN = 20.0


def settings(lease: float) -> dict[str, object]:
    """Of one worker with a slot for every run."""
    return {
        "runner": {"lease": f"{lease}s", "concurrency": RUNS, "poll": f"{POLL}s"},
        "database": {"busy_timeout": "300ms"},
    }


@contextmanager
def takeable(case: Case) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """What takes the case's database away, for as long as the block of its answer runs."""
    if case.kind == "sqlite":
        yield partial(locked, case)
        return
    with behind_proxy(case) as proxy:
        yield partial(cut_off, case, proxy)


async def test_r06_away_for_half_a_lease(case: Case) -> None:
    """50 runs are under way and the database is away for half a lease: none is lost, none is run again."""
    lease = case.size.of(MISSED_SHORT, MISSED_WHOLE)
    with takeable(case) as away:
        async with case.client(settings(lease)) as client:
            worker = case.workers.start(settings=settings(lease))
            await case.enqueue(client, RUNS, "holds", seconds=lease * 0.7)
            await case.until(lambda: _running(case) == RUNS)
            with away():
                await asyncio.sleep(lease / 2)
            back_at = time.monotonic()
            await case.settled()
            await case.enqueue(client, 5)
            await case.settled()
        more = list(prompt(case.ledger.read(), case.history(), since=back_at + 1, poll=POLL))
        history = case.judge(more=more, note="half a lease")
    assert _outcomes(history) == [["completed"]] * (RUNS + 5)
    assert len(case.effects()) == RUNS + 5
    assert "lease lost" not in worker.said()
    assert worker.alive


async def test_r06_away_for_two_leases(case: Case) -> None:
    """50 runs are under way and the database is away for two leases: their handlers are told, each is run once more."""
    with takeable(case) as away:
        async with case.client(settings(LOST)) as client:
            worker = case.workers.start(settings=settings(LOST))
            await case.enqueue(client, RUNS, "holds", seconds=60.0)
            await case.until(lambda: _running(case) == RUNS)
            with away():
                gone_at = time.monotonic()
                await case.until(lambda: worker.said().count("lease lost on") == RUNS)
                told_after = time.monotonic() - gone_at
                await asyncio.sleep(max(2 * LOST - told_after, 0))
            back_at = time.monotonic()
            await case.settled()
            recovery = time.monotonic() - back_at
            await case.enqueue(client, 5)
            await case.settled()
        more = list(prompt(case.ledger.read(), case.history(), since=back_at + recovery, poll=POLL))
        if told_after > LOST + 2.0:
            more.append(
                Breach("I3", "-", f"handlers were told {told_after:.1f} s after the last sign of life")
            )
        history = case.judge(more=more, recovery=recovery, note="two leases")
    assert _outcomes(history)[:RUNS] == [["crashed", "completed"]] * RUNS
    assert len(case.effects()) == RUNS + 5
    assert worker.alive


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_r06_stopped_while_the_server_is_silent(case: Case) -> None:
    """The server falls silent without refusing; a first SIGTERM ends the worker in bounded time, its runs go on."""
    grace = 1.0
    changes = settings(LOST) | {"runner": {"lease": f"{LOST}s", "shutdown_grace": f"{grace}s"}}
    with behind_proxy(case) as proxy:
        worker = case.workers.start(settings=changes)
        async with case.client({"database_url": case.url}) as client:
            await case.enqueue(client, 4, "holds", seconds=60.0)
            await case.until(lambda: _running(case) == 4)
            case.ledger.fault("silence", worker.pid)
            proxy.fall_silent()
            asked_at = time.monotonic()
            worker.terminate()
            assert await asyncio.to_thread(worker.wait) == 0, worker.said()
            took = time.monotonic() - asked_at
            case.workers.start(settings={"database_url": case.url})
            await case.settled()
        more = [] if took < grace + STOP_MARGIN else [Breach("stop", "-", f"the stop took {took:.1f} s")]
        history = case.judge(more=more, note=f"stopped after {took:.1f} s")
    assert _outcomes(history) == [["crashed", "completed"]] * 4


def _running(case: Case) -> int:
    return len(case.history().leases)


def _outcomes(history: History) -> list[list[str]]:
    """How the attempts of each run ended, in the order the runs were made."""
    attempts = history.attempts_of()
    made = sorted(history.runs, key=lambda run: run["id"].bytes)
    return [[row["outcome"] for row in attempts[run["id"].hex]] for run in made]
