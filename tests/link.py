"""A line of TCP to a server that can be cut and healed, as when a host is cut off: nothing is closed, nothing comes.

What is on its way when the line is cut arrives once it is healed; a connection that is tried meanwhile hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit


class Link:
    """One line, on an address of its own, to the PostgreSQL that a URL names."""

    def __init__(self, server: str, host: str) -> None:
        self._server = server
        self._host = host
        self._loop: asyncio.AbstractEventLoop | None = None
        self._whole: asyncio.Event | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """The same database, by this line."""
        parts = urlsplit(self._server)
        return f"postgresql://{parts.username or 'postgres'}@{self._host}:{self.port}{parts.path}"

    def cut(self) -> None:
        """From now on nothing gets through, in neither direction; thread-safe."""
        self._set(False)

    def heal(self) -> None:
        """What was held back gets through, and all that follows; thread-safe."""
        self._set(True)

    def _set(self, whole: bool) -> None:
        assert self._loop is not None
        assert self._whole is not None
        done = threading.Event()
        act = self._whole.set if whole else self._whole.clear
        self._loop.call_soon_threadsafe(act)
        self._loop.call_soon_threadsafe(done.set)
        assert done.wait(10)

    async def run(self, ready: threading.Event, stop: asyncio.Event) -> None:
        """Serve until `stop`; `ready` is set once `port` is known."""
        self._loop, self._whole = asyncio.get_running_loop(), asyncio.Event()
        self._whole.set()
        callers: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._carry(reader, writer))
            callers.add(task)
            task.add_done_callback(callers.discard)

        listening = await asyncio.start_server(accept, self._host, 0)
        self.port = listening.sockets[0].getsockname()[1]
        ready.set()
        await stop.wait()
        listening.close()
        for task in callers:
            task.cancel()
        await asyncio.gather(*callers, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._whole is not None
        with contextlib.closing(writer):
            await self._whole.wait()
            there, back = await connect(self._server)
            with contextlib.closing(back):
                ways = [
                    asyncio.create_task(self._pass(reader, back)),
                    asyncio.create_task(self._pass(there, writer)),
                ]
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways, return_exceptions=True)

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        assert self._whole is not None
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65_536):
                await self._whole.wait()
                target.write(data)
                await target.drain()
            # The end of a connection is news like any other.
            await self._whole.wait()


async def connect(server: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the server that a URL names: by its Unix socket, or by TCP."""
    parts = urlsplit(server)
    folder = parse_qs(parts.query).get("host", [""])[0]
    if folder.startswith("/"):
        return await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.{parts.port or 5432}")
    return await asyncio.open_connection(parts.hostname or "127.0.0.1", parts.port or 5432)


@contextmanager
def linked(server: str, host: str = "127.0.0.1") -> Iterator[Link]:
    """A line to this database, on a loop and in a thread of its own."""
    link, ready = Link(server, host), threading.Event()
    stops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def run() -> None:
        stops.append((asyncio.get_running_loop(), asyncio.Event()))
        await link.run(ready, stops[0][1])

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="link")
    thread.start()
    try:
        assert ready.wait(30)
        yield link
    finally:
        loop, stop = stops[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def main() -> None:
    """`python -m tests.link URL HOST`: offer a database on an address, print its URL there, end with standard input."""
    with linked(*sys.argv[1:3]) as link:
        print(link.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
