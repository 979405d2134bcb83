"""A host that handlers call: answers as the case wants it to, and keeps when it was asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. Times by the monotonic clock, in seconds."""

    came_at: float
    answered_at: float
    status: int
    beside: int
    """How many others were being answered as it came."""


@dataclass
class Host:
    """`status` is what it answers, `retry_after` what it asks for with that, `takes` the seconds of one answer."""

    port: int = 0
    status: int = 200
    retry_after: int | None = None
    takes: float = 0.02
    asked: list[Asked] = field(default_factory=list)
    at_work: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def answered(self, *statuses: int) -> list[Asked]:
        """The requests that were answered with one of these."""
        return [asked for asked in self.asked if asked.status in statuses]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: request after request."""
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._answer())
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    async def _answer(self) -> bytes:
        came_at, beside = time.monotonic(), self.at_work
        self.at_work += 1
        await asyncio.sleep(self.takes)
        self.at_work -= 1
        head = f"HTTP/1.1 {self.status} Answer\r\nContent-Length: 0\r\n"
        if self.retry_after is not None:
            head += f"Retry-After: {self.retry_after}\r\n"
        self.asked.append(Asked(came_at, time.monotonic(), self.status, beside))
        return f"{head}\r\n".encode()


@asynccontextmanager
async def listening() -> AsyncIterator[Host]:
    """A host on loopback, for the block."""
    host = Host()
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await host.serve(reader, writer)
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    host.port = server.sockets[0].getsockname()[1]
    try:
        yield host
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
