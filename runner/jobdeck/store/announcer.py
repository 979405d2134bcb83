"""NOTIFY on PostgreSQL: hints for other processes, sent after the commit and many of them as one.

Not inside the transactions they speak of: a transaction that notifies holds one lock of the whole database while it
commits, so that commits would queue behind each other. A process that dies between commit and hint costs the others
a poll interval.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from jobdeck.store.postgres.differences import CHANNEL
from jobdeck.store.postgres.session import Watch
from jobdeck.store.transaction import Hint

# Seconds, for a server that does not answer.
_PATIENCE = 5.0
# Seconds. News that only people look at waits for company; what somebody else can act on goes at once, but leaves
# the connection a little room.
_CHANGE_GAP = 0.05
_GAP = 0.002
_URGENT = Hint.WORK | Hint.CANCEL | Hint.MAIL
_NOTIFY = text("SELECT pg_notify(:channel, :payload)")


class Announcer:
    """Sends what is urgent at once, and what comes meanwhile together."""

    def __init__(self) -> None:
        self._engine: AsyncEngine | None = None
        self._hints = Hint.NONE
        self._wake = asyncio.Event()
        self._urgent = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self.name = secrets.token_hex(8)
        """By which a process knows its own hints when it hears them."""

    def start(self, engine: AsyncEngine) -> None:
        """Begin to send over an engine of its own: hints wait for no other connection."""
        self._engine = engine
        self._task = asyncio.create_task(self._run(), name="jobdeck-announce")

    def send(self, hints: Hint) -> None:
        """Tell the other processes, soon."""
        if hints:
            self._hints |= hints
            self._wake.set()
            if hints & _URGENT:
                self._urgent.set()

    async def stop(self) -> None:
        """Send what waits, then end."""
        self._closing = True
        self._wake.set()
        self._urgent.set()
        if self._task is not None:
            await self._task
        if self._engine is not None:
            await self._engine.dispose()

    async def _run(self) -> None:
        while not (self._closing and not self._hints):
            await self._wake.wait()
            self._wake.clear()
            if not (self._hints & _URGENT or self._closing):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_CHANGE_GAP):
                        await self._urgent.wait()
            self._urgent.clear()
            hints, self._hints = self._hints, Hint.NONE
            if hints:
                # Hints are a convenience: whoever misses one looks at the next poll. Nothing may end the sending.
                try:
                    await self._notify(hints)
                except asyncio.CancelledError:
                    # Out of the driver, where nobody has cancelled this task.
                    if _is_cancelled():
                        raise
                except Exception:  # noqa: S110  see above
                    pass
                await asyncio.sleep(_GAP)

    async def _notify(self, hints: Hint) -> None:
        assert self._engine is not None  # noqa: S101  started
        async with self._engine.connect() as conn:
            with Watch(conn, _PATIENCE):
                await conn.execution_options(isolation_level="AUTOCOMMIT")
                await conn.execute(_NOTIFY, {"channel": CHANNEL, "payload": f"{hints.value} {self.name}"})


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
