"""A cancelled request leaves nothing behind (promise 9; reliability 3.4)."""

from __future__ import annotations

import asyncio
import gc
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from jobdeck.net import AddressPolicy, DeadlineExceeded, GuardedClient
from jobdeck.net.pool import CONNECTIONS

from .conftest import FakeResolver, Peer, Server

Serve = Callable[..., Awaitable[Server]]
STEPS = 60


async def trickle(peer: Peer) -> None:
    """Answers each request in pieces, giving way to the loop between them."""
    while True:
        await peer.request()
        for piece in (b"HTTP/1.1 200 OK\r\n", b"Content-Length: 3\r\n\r\n", b"a", b"b", b"c"):
            await peer.send(piece)
            await asyncio.sleep(0)


def sockets() -> int:
    """Open sockets of this process."""
    return sum(1 for path in Path("/proc/self/fd").iterdir() if "socket" in _link(path))


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("cancels", [1, 3])
async def test_a_cancel_at_any_step_leaks_nothing(
    serve: Serve, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, tls: bool, cancels: int
) -> None:
    """Cancelled at any turn of the loop, once or thrice: no socket, task or place in the pool is lost."""
    server = await serve(trickle, tls=server_tls if tls else None)
    url = f"http{'s' if tls else ''}://api.example.test:{server.port}/"
    policy = AddressPolicy(["api.example.test"])
    tasks, before = asyncio.all_tasks(), sockets()
    async with GuardedClient(policy, resolver=FakeResolver(["127.0.0.1"]), ssl_context=client_tls) as client:
        outcomes = set()
        for step in range(STEPS):
            request = asyncio.create_task(client.request("GET", url))
            for _ in range(step):
                await asyncio.sleep(0)
            for _ in range(cancels):
                request.cancel()
                await asyncio.sleep(0)
            (outcome,) = await asyncio.gather(request, return_exceptions=True)
            outcomes.add(type(outcome).__name__)
            if isinstance(outcome, asyncio.CancelledError):
                assert len(client._pool._idle) <= 1
                assert client._pool._places._value == CONNECTIONS
        assert "CancelledError" in outcomes
        assert outcomes <= {"CancelledError", "HttpResponse"}
        assert (await client.request("GET", url)).body == b"abc"
    await server.idle.wait()
    gc.collect()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() <= tasks
    assert sockets() <= before


async def test_more_timeouts_than_places_in_the_pool(serve: Serve) -> None:
    """Fifty requests that end by their deadline do not use up the pool of twenty."""
    slow = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        if slow.is_set():
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await peer.reader.read()

    server = await serve(script)
    async with GuardedClient(AddressPolicy(["127.0.0.1"])) as client:
        ended = await asyncio.gather(
            *(client.request("GET", server.url, deadline=0.2) for _ in range(50)), return_exceptions=True
        )
        assert [type(outcome) for outcome in ended] == [DeadlineExceeded] * 50
        slow.set()
        assert (await client.request("GET", server.url)).body == b"ok"


async def test_a_timeout_of_the_caller_is_the_callers(serve: Serve) -> None:
    """A timeout around the request stays a TimeoutError and is not mistaken for the client's own deadline."""
    server = await serve(trickle_never)
    async with GuardedClient(AddressPolicy(["127.0.0.1"])) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.request("GET", server.url)
    await server.idle.wait()


async def trickle_never(peer: Peer) -> None:
    await peer.request()
    await peer.reader.read()


async def test_closing_the_client_closes_its_connections(serve: Serve) -> None:
    """Kept connections end with the client."""
    server = await serve(trickle)
    async with GuardedClient(AddressPolicy(["127.0.0.1"])) as client:
        await client.request("GET", server.url)
        assert not server.idle.is_set()
    await server.idle.wait()
