"""Which address a connection really goes to (reliability S2)."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence

import pytest

from jobdeck.net import AddressPolicy, BlockedAddress, ConnectFailed, DeadlineExceeded, GuardedClient

from .conftest import FakeResolver, Peer, RecordingDialer, Server, answering, response

Serve = Callable[..., Awaitable[Server]]


async def test_rebinding(serve: Serve) -> None:
    """A name is resolved once for each connection; when it turns private, that connection is refused."""
    resolver, dialer = FakeResolver(["93.184.216.34"], ["127.0.0.1"]), RecordingDialer()
    async with GuardedClient(AddressPolicy(), resolver=resolver, dialer=dialer) as client:
        with pytest.raises(ConnectFailed):
            await client.request("GET", "https://rebind.example/")
        assert (len(resolver.asked), dialer.dialled) == (1, ["93.184.216.34"])
        with pytest.raises(BlockedAddress, match=r"rebind\.example leads to 127\.0\.0\.1"):
            await client.request("GET", "https://rebind.example/")
        assert (len(resolver.asked), dialer.dialled) == (2, ["93.184.216.34"])


@pytest.mark.parametrize(
    "answers",
    [
        ["93.184.216.34", "127.0.0.1"],
        ["10.0.0.1", "93.184.216.34"],
        ["93.184.216.34", "2606:4700::1", "::ffff:169.254.169.254"],
        ["2606:4700::1"] * 9 + ["64:ff9b::a9fe:a9fe"],
        ["fe80::1%lo"],
        ["0.0.0.0"],
    ],
)
async def test_one_closed_answer_closes_the_name(answers: Sequence[str]) -> None:
    """Every answer is checked before the first is dialled, also those that would never be tried."""
    dialer = RecordingDialer()
    async with GuardedClient(AddressPolicy(), resolver=FakeResolver(answers), dialer=dialer) as client:
        with pytest.raises(BlockedAddress):
            await client.request("GET", "https://mixed.example/")
    assert dialer.dialled == []


async def test_the_peer_is_checked_again(serve: Serve) -> None:
    """If the socket ends up at another address than the checked one, nothing is sent to it."""
    got = asyncio.Event()

    async def script(peer: Peer) -> None:
        if await peer.reader.read(1):
            got.set()

    server = await serve(script)
    dialer = RecordingDialer(server.port)
    async with GuardedClient(
        AddressPolicy(), resolver=FakeResolver(["93.184.216.34"]), dialer=dialer
    ) as client:
        with pytest.raises(BlockedAddress, match=r"but 127\.0\.0\.1 answered"):
            await client.request("GET", "https://public.example/")
    await server.idle.wait()
    assert (server.connections, got.is_set()) == (1, False)


async def test_host_and_server_name_are_kept(
    serve: Serve, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """The checked address is dialled; Host, SNI and the certificate check still use the name."""
    names: list[str | None] = []
    server_tls.sni_callback = lambda _socket, name, _context: names.append(name)
    server = await serve(answering(response(b"ok")), tls=server_tls)
    resolver = FakeResolver(["127.0.0.1"])
    policy = AddressPolicy(["api.example.test", "other.example.test"])
    async with GuardedClient(policy, resolver=resolver, ssl_context=client_tls) as client:
        got = await client.request("GET", f"https://api.example.test:{server.port}/")
        assert (got.body, names) == (b"ok", ["api.example.test"])
        assert f"\r\nHost: api.example.test:{server.port}\r\n".encode() in server.requests[0]
        assert got.timing.connect_ms > 0
        with pytest.raises(ConnectFailed, match="certificate"):
            await client.request("GET", f"https://other.example.test:{server.port}/")
    async with GuardedClient(policy, resolver=resolver) as client:
        with pytest.raises(ConnectFailed, match="certificate"):
            await client.request("GET", f"https://api.example.test:{server.port}/")
    server_tls.sni_callback = None


async def test_the_certificates_of_the_environment_are_ignored(
    serve: Serve, server_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`SSL_CERT_FILE` in the environment of a worker does not make a stranger's certificate good."""
    from .conftest import PEM

    monkeypatch.setenv("SSL_CERT_FILE", str(PEM))
    server = await serve(answering(response(b"ok")), tls=server_tls)
    async with GuardedClient(AddressPolicy(["127.0.0.1"])) as client:
        with pytest.raises(ConnectFailed, match="certificate"):
            await client.request("GET", f"https://127.0.0.1:{server.port}/")


async def test_a_name_through_a_network_entry(serve: Serve) -> None:
    """With a network in the list, http to a name is decided by the address: open inside, closed outside."""
    server = await serve(answering(response(b"ok")))
    resolver = FakeResolver(["127.0.0.1"], ["93.184.216.34"], ["10.0.0.1"])
    dialer = RecordingDialer(server.port)
    async with GuardedClient(AddressPolicy(["127.0.0.0/8"]), resolver=resolver, dialer=dialer) as client:
        assert (await client.request("GET", f"http://localhost:{server.port}/")).body == b"ok"
        with pytest.raises(BlockedAddress, match="use https on port 443 or 8443"):
            await client.request("GET", "http://a.example/")
        with pytest.raises(BlockedAddress, match="not a public address"):
            await client.request("GET", "http://b.example/")
    assert dialer.dialled == ["127.0.0.1"]


async def test_the_next_address_is_tried(serve: Serve) -> None:
    """An address that refuses does not fail the request while another one answers; at most four are tried."""
    server = await serve(answering(response(b"ok")))
    reserved = socket.create_server(("127.0.0.2", server.port))
    reserved.close()
    policy = AddressPolicy(["many.example"])
    async with GuardedClient(policy, resolver=FakeResolver(["127.0.0.2", "127.0.0.1"])) as client:
        assert (await client.request("GET", f"http://many.example:{server.port}/")).body == b"ok"
    dialer = RecordingDialer()
    resolver = FakeResolver([f"10.0.0.{n}" for n in range(1, 10)])
    async with GuardedClient(policy, resolver=resolver, dialer=dialer) as client:
        with pytest.raises(ConnectFailed):
            await client.request("GET", "http://many.example/")
    assert len(dialer.dialled) == 4


async def test_the_deadline_covers_the_look_up() -> None:
    """A name service that never answers ends with the deadline."""

    async def never(host: str, port: int, /) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    async with GuardedClient(AddressPolicy(), resolver=never) as client:
        with pytest.raises(DeadlineExceeded, match="connecting"):
            await client.request("GET", "https://slow.example/", deadline=0.05)


async def test_the_system_resolver(serve: Serve) -> None:
    """Without a given resolver the system is asked; localhost leads to loopback, which the list opens."""
    server = await serve(answering(response(b"ok")))
    async with GuardedClient(AddressPolicy(["127.0.0.1", "::1"])) as client:
        assert (await client.request("GET", f"http://localhost:{server.port}/")).body == b"ok"
    async with GuardedClient(AddressPolicy(["10.0.0.0/8"])) as client:
        with pytest.raises(BlockedAddress, match="localhost leads to"):
            await client.request("GET", f"http://localhost:{server.port}/")
