"""What one host is spared: its places, and the pause it asks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from jobdeck.net import AddressPolicy, GuardedClient, HostBusy
from jobdeck.testing.clock import FakeClock
from tests.net.conftest import Peer, Server, answering, response

Serve = Callable[..., Awaitable[Server]]
MOST = 3
BUSY = response(b"", b"Retry-After: 60", status=b"429 Too Many Requests")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def client(clock: FakeClock) -> AsyncIterator[GuardedClient]:
    async with GuardedClient(AddressPolicy(["127.0.0.0/8"]), per_host=MOST, clock=clock) as guarded:
        yield guarded


class Held:
    """A server that answers nobody until it is told to, and keeps how many were waiting for it at a time."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.now = self.most = 0

    async def script(self, peer: Peer) -> None:
        while True:
            await peer.request()
            self.now += 1
            self.most = max(self.most, self.now)
            await self.release.wait()
            self.now -= 1
            await peer.send(response(b"ok"))


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0)


async def test_a_host_has_no_more_requests_at_a_time_than_its_places(
    serve: Serve, client: GuardedClient
) -> None:
    """Ten requests at once to a host of three places: the others wait for their turn, and all are answered."""
    held = Held()
    server = await serve(held.script)
    asked = [asyncio.create_task(client.request("GET", server.url)) for _ in range(10)]
    await _until(lambda: held.now == MOST)
    held.release.set()
    assert [got.body for got in await asyncio.gather(*asked)] == [b"ok"] * 10
    assert held.most == MOST


async def test_another_host_does_not_wait(serve: Serve, client: GuardedClient) -> None:
    """The places of one host are not those of another."""
    held = Held()
    server = await serve(held.script)
    other = await serve(answering(response(b"here")), host="127.0.0.2")
    asked = [asyncio.create_task(client.request("GET", server.url)) for _ in range(MOST)]
    await _until(lambda: held.now == MOST)
    assert (await client.request("GET", f"http://127.0.0.2:{other.port}")).body == b"here"
    held.release.set()
    await asyncio.gather(*asked)


async def test_who_finds_no_place_in_time_is_told(serve: Serve, client: GuardedClient) -> None:
    """HostBusy after the patience, nothing sent; a cancelled wait and an ended one leave no place taken."""
    held = Held()
    server = await serve(held.script)
    asked = [asyncio.create_task(client.request("GET", server.url)) for _ in range(MOST)]
    await _until(lambda: held.now == MOST)
    with pytest.raises(HostBusy, match=r"busy with 3 requests .*per_host") as caught:
        await client.request("GET", server.url, patience=0.01)
    assert caught.value.retry_after is None
    waiting = asyncio.create_task(client.request("GET", server.url))
    await asyncio.sleep(0)
    waiting.cancel()
    held.release.set()
    await asyncio.gather(*asked)
    assert len(server.requests) == MOST
    held.release.clear()
    again = [asyncio.create_task(client.request("GET", server.url)) for _ in range(MOST)]
    await _until(lambda: held.now == MOST)
    held.release.set()
    await asyncio.gather(*again)


async def test_the_wait_for_a_turn_does_not_count_against_the_deadline(
    serve: Serve, client: GuardedClient
) -> None:
    """A request has its deadline for itself: what others take is waited for with `patience`."""
    held = Held()
    server = await serve(held.script)
    asked = [asyncio.create_task(client.request("GET", server.url)) for _ in range(MOST)]
    await _until(lambda: held.now == MOST)
    late = asyncio.create_task(client.request("GET", server.url, deadline=0.2))
    done, _ = await asyncio.wait([late], timeout=0.3)
    assert not done
    held.release.set()
    assert (await late).timing.total_ms < 200
    await asyncio.gather(*asked)


@pytest.mark.parametrize("status", [b"429 Too Many Requests", b"503 Service Unavailable"])
async def test_a_host_that_asks_for_a_pause_gets_it(
    status: bytes, serve: Serve, client: GuardedClient, clock: FakeClock
) -> None:
    """After Retry-After nobody is sent there, whatever run asks; who can wait that long waits, the others are told."""
    server = await serve(answering(response(b"", b"Retry-After: 60", status=status), response(b"ok")))
    assert (await client.request("GET", server.url)).retry_after == 60
    with pytest.raises(HostBusy, match="left alone for another 60 s") as caught:
        await client.request("GET", server.url, patience=59)
    assert caught.value.retry_after == 60
    patient = asyncio.create_task(client.request("GET", server.url, patience=61))
    await _until(lambda: clock.sleepers == 1)
    assert len(server.requests) == 1
    clock.advance(60)
    assert (await patient).body == b"ok"
    assert (await client.request("GET", server.url)).body == b"ok"


@pytest.mark.parametrize(
    "answer", [response(b"", b"Retry-After: 60"), response(b"", status=b"503 Down"), BUSY]
)
async def test_only_a_host_that_turns_away_is_left_alone(
    answer: bytes, serve: Serve, client: GuardedClient
) -> None:
    """Retry-After of a 200 means something else, and without one there is no pause."""
    server = await serve(answering(answer))
    await client.request("GET", server.url)
    if answer is BUSY:
        with pytest.raises(HostBusy):
            await client.request("GET", server.url, patience=1)
    else:
        await client.request("GET", server.url, patience=1)


async def test_a_turn_that_comes_after_a_refusal_waits_out_the_pause(
    serve: Serve, client: GuardedClient, clock: FakeClock
) -> None:
    """Those that queued while the host was still answering do not run into it one by one when it says 429."""
    release = asyncio.Event()

    async def turn_away(peer: Peer) -> None:
        await peer.request()
        await release.wait()
        await peer.send(BUSY)

    server = await serve(turn_away)
    asked = [asyncio.create_task(client.request("GET", server.url, patience=30)) for _ in range(10)]
    await _until(lambda: len(server.requests) == MOST)
    release.set()
    ended = await asyncio.gather(*asked, return_exceptions=True)
    assert len(server.requests) == MOST
    assert sum(isinstance(end, HostBusy) for end in ended) == 10 - MOST
