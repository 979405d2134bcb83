"""A scripted server on loopback and a client that may reach it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpcore
import pytest

from jobdeck.net import AddressPolicy, GuardedClient

# Key and certificate of nobody, for api.example.test and 127.0.0.1, valid to 2126.
PEM = Path(__file__).parent / "server.pem"

Script = Callable[["Peer"], Awaitable[None]]


@dataclass
class Peer:
    """One connection as the server sees it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    server: Server

    async def request(self) -> bytes:
        """The next request, head and body, as bytes. Raises IncompleteReadError when the client is gone."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        whole = head + await self.reader.readexactly(length)
        self.server.requests.append(whole)
        return whole

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def flood(self, data: bytes, limit: int) -> None:
        """Send `data` again and again until the client hangs up, at most `limit` bytes."""
        while self.server.sent < limit:
            await self.send(data)
            self.server.sent += len(data)


@dataclass
class Server:
    """What happened at the server."""

    port: int = 0
    connections: int = 0
    sent: int = 0
    requests: list[bytes] = field(default_factory=list)
    open: set[asyncio.Task[None]] = field(default_factory=set)
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while no connection is open."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def response(body: bytes = b"", *headers: bytes, status: bytes = b"200 OK") -> bytes:
    lines = [b"HTTP/1.1 " + status, b"Content-Length: " + str(len(body)).encode(), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def answering(*responses: bytes) -> Script:
    """A script that answers each request on a connection with the next response, the last one for ever."""

    async def script(peer: Peer) -> None:
        turn = 0
        while True:
            await peer.request()
            await peer.send(responses[min(turn, len(responses) - 1)])
            turn += 1

    return script


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[Server]]]:
    """Starts servers: `await serve(script)`; they end with the test."""
    async with AsyncExitStack() as stack:

        async def start(
            script: Script, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
        ) -> Server:
            server = Server()
            server.idle.set()

            async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                task = asyncio.current_task()
                assert task is not None
                server.connections += 1
                server.open.add(task)
                server.idle.clear()
                try:
                    await script(Peer(reader, writer, server))
                except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                    pass
                finally:
                    writer.transport.abort()
                    server.open.discard(task)
                    if not server.open:
                        server.idle.set()

            listening = await asyncio.start_server(connected, host, 0, ssl=tls)
            server.port = listening.sockets[0].getsockname()[1]

            async def stop() -> None:
                listening.close()
                for task in list(server.open):
                    task.cancel()
                await server.idle.wait()

            stack.push_async_callback(stop)
            return server

        yield start


class FakeResolver:
    """Answers from a list, a new answer at each question; keeps the questions."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int, /) -> Sequence[str]:
        self.asked.append(host)
        return self.answers[min(len(self.asked), len(self.answers)) - 1]


class RecordingDialer(httpcore.AsyncNetworkBackend):
    """Keeps the addresses that were dialled; all of them end at `port` on loopback, or refuse if 0."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.dialled: list[str] = []

    async def connect_tcp(self, host: str, *args: object, **kwargs: object) -> httpcore.AsyncNetworkStream:
        self.dialled.append(host)
        if not self.port:
            raise httpcore.ConnectError("refused by the test")
        return await httpcore.AnyIOBackend().connect_tcp("127.0.0.1", self.port)


@pytest.fixture
async def client() -> AsyncIterator[GuardedClient]:
    """A client that may reach loopback, with a short deadline for a test that hangs."""
    async with GuardedClient(AddressPolicy(["127.0.0.1/32", "::1/128"]), deadline=10.0) as guarded:
        yield guarded


@pytest.fixture(scope="session")
def server_tls() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(PEM)
    return context


@pytest.fixture(scope="session")
def client_tls() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=PEM)
