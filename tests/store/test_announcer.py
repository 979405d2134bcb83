"""Many hints become few NOTIFYs: what only people look at waits for company, what can be acted on does not."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from jobdeck.store import announcer
from jobdeck.store.announcer import Announcer
from jobdeck.store.transaction import Hint


class _Engine:
    disposed = False

    async def dispose(self) -> None:
        self.disposed = True


class Recorder(Announcer):
    """Notes what would be sent; `sent` wakes the test."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = _Engine()
        self.told: list[Hint] = []
        self.sent = asyncio.Event()
        self.failing = False
        self.error: BaseException = OSError("gone")

    async def _notify(self, hints: Hint) -> None:
        if self.failing:
            raise self.error
        self.told.append(hints)
        self.sent.set()

    def begin(self) -> None:
        self.start(cast(AsyncEngine, cast(Any, self.engine)))

    async def until_sent(self) -> None:
        async with asyncio.timeout(20):
            await self.sent.wait()
        self.sent.clear()


async def test_a_burst_of_news_is_one_notification() -> None:
    recorder = Recorder()
    recorder.begin()
    for _ in range(100):
        recorder.send(Hint.CHANGE)
    await recorder.until_sent()
    await recorder.stop()
    assert recorder.told == [Hint.CHANGE]


async def test_work_takes_waiting_news_along_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that news may wait is long here: it is the work that ends the wait."""
    monkeypatch.setattr(announcer, "_CHANGE_GAP", 3_600)
    recorder = Recorder()
    recorder.begin()
    recorder.send(Hint.CHANGE)
    await asyncio.sleep(0)
    recorder.send(Hint.WORK)
    await recorder.until_sent()
    assert recorder.told == [Hint.CHANGE | Hint.WORK]
    recorder.send(Hint.CHANGE)
    await recorder.stop()
    assert recorder.told[1:] == [Hint.CHANGE]
    assert recorder.engine.disposed


@pytest.mark.parametrize("error", [OSError("gone"), asyncio.CancelledError()], ids=["broken", "cancelled"])
async def test_a_notification_that_fails_stops_no_later_one(error: BaseException) -> None:
    """Hints are a convenience: an outage loses some, and the next ones are told again.

    So does a cancellation that nobody but the driver has asked for.
    """
    recorder = Recorder()
    recorder.error = error
    recorder.begin()
    recorder.failing = True
    recorder.send(Hint.WORK)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    recorder.failing = False
    recorder.send(Hint.CANCEL)
    await recorder.until_sent()
    await recorder.stop()
    assert Hint.CANCEL in recorder.told[0]
