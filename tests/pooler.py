"""A connection pooler on loopback, with the ways of real ones that matter to jobdeck.

In transaction mode a client has a backend from the first message of a transaction to its end, and then, to be as
unhelpful as may be, never the same one again while there is another. What a backend says while it belongs to nobody
is dropped, notifications above all. Start-up parameters it does not know are refused, as pgbouncer refuses them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import struct
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.link import connect

_SSL, _GSS, _CANCEL = 80877103, 80877104, 80877102
_KNOWN = {"user", "database", "client_encoding", "datestyle", "timezone", "standard_conforming_strings"}
_KNOWN |= {"application_name", "search_path"}


def _message(kind: bytes, payload: bytes) -> bytes:
    return kind + struct.pack("!I", len(payload) + 4) + payload


async def _read_message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Kind and payload. Raises IncompleteReadError at the end."""
    head = await reader.readexactly(5)
    return head[:1], await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)


@dataclass(eq=False)
class Backend:
    """A connection to the server; `client` is whom it belongs to just now."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    parameters: bytes
    client: asyncio.StreamWriter | None = None
    gone: bool = False
    idle: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Pooler:
    """Serves one PostgreSQL server. `session`: a backend belongs to a client for as long as the client is there."""

    server: str
    size: int = 3
    session: bool = False
    drops_notifications: bool = True
    url: str = ""
    _free: deque[Backend] = field(default_factory=deque)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _connecting: int = 0
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(900_001))
    _listening: dict[asyncio.Task[None], Backend] = field(default_factory=dict)

    # -- clients ------------------------------------------------------------------------------------------------

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client from its greeting to its end."""
        try:
            names = await self._greet(reader, writer)
            if names is not None:
                await self._work(reader, writer, names)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _greet(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> dict[str, str] | None:
        while True:
            (length,) = struct.unpack("!I", await reader.readexactly(4))
            payload = await reader.readexactly(length - 4)
            (code,) = struct.unpack("!I", payload[:4])
            if code == _CANCEL:
                return None
            if code not in (_SSL, _GSS):
                break
            writer.write(b"N")
        words = [word.decode() for word in payload[4:].split(b"\0")]
        given = dict(zip(words[::2], words[1::2], strict=False))
        given.pop("", None)
        if unknown := set(map(str.lower, given)) - _KNOWN:
            fields = (
                b"SFATAL\0C08P01\0Munsupported startup parameter: " + sorted(unknown)[0].encode() + b"\0\0"
            )
            writer.write(_message(b"E", fields))
            return None
        backend = await self._take(given)
        self._give_back(backend)
        # A process id and a key of the pooler's own: the client may get any backend.
        key = struct.pack("!II", next(self._numbers), 0)
        writer.write(_message(b"R", struct.pack("!I", 0)) + backend.parameters + _message(b"K", key))
        writer.write(_message(b"Z", b"I"))
        return given

    async def _work(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, names: dict[str, str]
    ) -> None:
        backend: Backend | None = None
        try:
            while True:
                kind, payload = await _read_message(reader)
                if kind == b"X":
                    return
                if backend is None:
                    backend = await self._take(names)
                    backend.client = writer
                backend.idle.clear()
                backend.writer.write(_message(kind, payload))
                if kind in (b"Q", b"S") and not self.session:
                    backend = await self._after(backend)
        finally:
            if backend is not None:
                # In the middle of a transaction, or a session of its own: nobody else may get it as it is.
                backend.client = None
                backend.writer.close()

    async def _after(self, backend: Backend) -> Backend | None:
        """Wait for the answer; the backend, or None where it has been given back because no transaction is open."""
        await backend.idle.wait()
        if backend.gone:
            raise ConnectionError("the server has ended the connection")
        if backend.client is not None:
            return backend
        self._give_back(backend)
        return None

    # -- backends -----------------------------------------------------------------------------------------------

    async def _take(self, names: dict[str, str]) -> Backend:
        """A new backend while there may be more, else the one that has been free for longest."""
        while True:
            if len(self._listening) + self._connecting < self.size:
                self._connecting += 1
                try:
                    self._give_back(await self._connect(names))
                finally:
                    self._connecting -= 1
            while self._free:
                backend = self._free.popleft()
                if not backend.gone:
                    return backend
            self._changed.clear()
            await self._changed.wait()

    def _give_back(self, backend: Backend) -> None:
        backend.client = None
        self._free.append(backend)
        self._changed.set()

    async def _connect(self, names: dict[str, str]) -> Backend:
        reader, writer = await connect(self.server)
        words = f"user\0{names['user']}\0database\0{names.get('database', names['user'])}\0\0".encode()
        writer.write(struct.pack("!II", len(words) + 8, 196608) + words)
        parameters = b""
        while True:
            kind, payload = await _read_message(reader)
            if kind == b"S":
                parameters += _message(kind, payload)
            if kind == b"E":
                raise ConnectionError(payload.decode())
            if kind == b"Z":
                break
        backend = Backend(reader, writer, parameters)
        task = asyncio.create_task(self._listen(backend))
        self._listening[task] = backend
        task.add_done_callback(self._lose)
        return backend

    def _lose(self, done: asyncio.Task[None]) -> None:
        """A connection to the server is at its end, and with it the client that had it."""
        backend = self._listening.pop(done)
        backend.gone = True
        backend.writer.close()
        if backend.client is not None:
            backend.client.close()
        backend.idle.set()
        self._changed.set()

    async def close(self) -> None:
        """End the connections to the server."""
        listening = list(self._listening)
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)

    async def _listen(self, backend: Backend) -> None:
        """Pass on what a backend says to whom it belongs, and drop the rest."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind, payload = await _read_message(backend.reader)
                client = backend.client
                if client is not None and not (kind == b"A" and self.drops_notifications):
                    client.write(_message(kind, payload))
                if kind == b"Z":
                    if payload == b"I" and not self.session:
                        backend.client = None
                    backend.idle.set()


@contextmanager
def pooled(server: str, *, host: str = "127.0.0.1", **options: object) -> Iterator[Pooler]:
    """A pooler before the database of this URL, on a loop and in a thread of its own; `pooler.url` leads through it."""
    ready, loops = threading.Event(), []
    pooler = Pooler(server, **options)  # type: ignore[arg-type]

    async def run() -> None:
        stop = asyncio.Event()
        loops.append((asyncio.get_running_loop(), stop))
        async with _listening(pooler, host) as port:
            parts = urlsplit(server)
            user = parts.username or "postgres"
            pooler.url = f"postgresql://{user}@{host}:{port}{parts.path}"
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="pooler")
    thread.start()
    assert ready.wait(30)
    try:
        yield pooler
    finally:
        loop, stop = loops[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@contextlib.asynccontextmanager
async def _listening(pooler: Pooler, host: str) -> AsyncIterator[int]:
    clients: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(pooler.serve(reader, writer))
        clients.add(task)
        task.add_done_callback(clients.discard)

    server = await asyncio.start_server(accept, host, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in clients:
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        await pooler.close()
