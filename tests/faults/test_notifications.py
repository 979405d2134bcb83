"""Notifications that do not arrive: a LISTEN that hears nothing any more, and a network that passes none on."""

from __future__ import annotations

import asyncio
import time

import pytest

from jobdeck.client import Client
from jobdeck.store.postgres.notifications import UNHEARD
from tests.faults.case import LONG_LEASE, Case
from tests.faults.invariants import Breach, prompt
from tests.faults.outages import behind_proxy
from tests.faults.proxy import Proxy
from tests.faults.workers import merged

pytestmark = pytest.mark.parametrize("database_kind", ["postgresql"])

# Seconds. Polling alone would be far too late in the first case.
SELDOM, OFTEN = 300.0, 1.0
NOTICED = 20.0
# How often, and how long the connection is held.
SHORT, WHOLE = (1, 0.0), (3, 60.0)


async def test_r09_a_listener_that_falls_silent(case: Case) -> None:
    """Packets on the LISTEN connection vanish without a reset: it is noticed, made anew, and nothing stays unseen."""
    times, seconds = case.size.of(SHORT, WHOLE)
    waits = []
    async with case.client() as client:
        with behind_proxy(case) as proxy:
            for _ in range(times):
                waits.append(await _silenced(case, client, proxy, seconds))
            well = time.monotonic()
            await case.enqueue(client, 3)
            await case.settled()
    # What is begun at once is begun by a wake-up, for nobody polls.
    more = list(prompt(case.ledger.read(), case.history(), since=well, poll=0.0))
    if max(waits) > NOTICED:
        more.append(Breach("I6", "-", f"a run waited {max(waits):.1f} s"))
    case.judge(more=more, recovery=max(waits), note=f"polls every {SELDOM:.0f} s")
    assert min(waits) > 1.0, "it was found without the LISTEN"


async def _silenced(case: Case, client: Client, proxy: Proxy, seconds: float) -> float:
    """How long a run waits for a worker whose LISTEN has fallen silent, and does so for `seconds` at least."""
    # Of its own each time: after some work a worker looks often for a while.
    for worker in case.workers.alive:
        worker.terminate()
        await asyncio.to_thread(worker.wait)
    known = len(case.history().workers)
    worker = case.workers.start(settings=merged(LONG_LEASE, {"runner": {"poll": f"{SELDOM:.0f}s"}}))
    await case.until(lambda: proxy.listeners == 1 and len(case.history().workers) > known)
    case.ledger.fault("silence on the LISTEN connection", worker.pid)
    proxy.fall_silent(only_listeners=True)
    begun = time.monotonic()
    await case.enqueue(client)
    await case.settled()
    waited = time.monotonic() - begun
    await asyncio.sleep(max(seconds - waited, 0))
    proxy.mend()
    return waited


async def test_r10_no_notification_comes_through(case: Case) -> None:
    """All notifications are dropped on the way: the worker says so once, and finds new runs by polling."""
    settings = merged(LONG_LEASE, {"runner": {"poll": f"{OFTEN:.0f}s"}})
    async with case.client() as client:
        with behind_proxy(case) as proxy:
            proxy.mute = True
            case.ledger.fault("drop all notifications")
            worker = case.workers.start(settings=settings)
            await case.until(lambda: "takes runs of" in worker.said())
            begun = time.monotonic()
            for _ in range(case.size.of(3, 30)):
                await case.enqueue(client)
                await case.settled()
                # Beside the polls, not in step with them.
                await asyncio.sleep(0.37)
            more = list(prompt(case.ledger.read(), case.history(), since=begun, poll=OFTEN))
    case.judge(more=more, note=f"polls every {OFTEN:.0f} s")
    assert worker.said().count(UNHEARD.says) == 1
