"""The LISTEN of a process ends when it is told to, whatever becomes of its connection in the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url

from jobdeck.store.postgres.notifications import NotificationListener
from jobdeck.store.signals import Signals
from tests.engine.gate import PATIENCE


class _Session:
    """A connection that hears what it is told, and ends when the test says so."""

    def __init__(self) -> None:
        self.heard: dict[str, Callable[..., None]] = {}
        self.gone: Callable[[Any], None] = lambda _: None

    def add_termination_listener(self, listener: Callable[[Any], None]) -> None:
        self.gone = listener

    async def add_listener(self, channel: str, listener: Callable[..., None]) -> None:
        self.heard[channel] = listener

    async def fetch(self, _query: str) -> list[str]:
        return list(self.heard)

    def terminate(self) -> None: ...


@pytest.mark.parametrize("turns", range(6))
async def test_a_stop_while_the_connection_breaks(turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many turns of the loop lie between the two, the listener ends, and does not connect again."""
    session = _Session()

    async def connect(*_: Any, **__: Any) -> _Session:
        return session

    async def notify(channel: str) -> None:
        session.heard[channel](session, 1, channel, "")

    monkeypatch.setattr(asyncpg, "connect", connect)
    url = make_url("postgresql://nobody@127.0.0.1/none")
    listener = NotificationListener(url, Signals(), notify, own="me")
    await listener.start()
    for _ in range(20):
        await asyncio.sleep(0)
    session.gone(session)
    for _ in range(turns):
        await asyncio.sleep(0)
    stopping = asyncio.create_task(listener.stop())
    done, _ = await asyncio.wait({stopping}, timeout=PATIENCE)
    stopping.cancel()
    assert done
