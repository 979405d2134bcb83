"""The client against a server that behaves (reliability S2, S3, S5; cases S02, S14)."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jobdeck.net import (
    AddressPolicy,
    BadResponse,
    BlockedAddress,
    ConnectFailed,
    DeadlineExceeded,
    GuardedClient,
    Headers,
    HttpResponse,
    HttpTiming,
    InvalidRequest,
    ResponseTooLarge,
)

from .conftest import Peer, Server, answering, response

Serve = Callable[..., Awaitable[Server]]


async def test_the_wire(serve: Serve, client: GuardedClient) -> None:
    """What is sent, byte for byte: own headers once, no cookie, no compression asked for, params merged."""
    server = await serve(answering(response(b"ok", b"Set-Cookie: a=1", b"Set-Cookie: b=2", b"X-Y: z")))
    got = await client.request(
        "post",
        f"{server.url}/a?x=1",
        headers={"X-Key": "k", "user-agent": "mine"},
        params={"y": "é"},
        json={"n": 1, "t": "é"},
    )
    await client.request("GET", server.url)
    body = '{"n":1,"t":"é"}'.encode()
    host = f"127.0.0.1:{server.port}".encode()
    assert server.requests == [
        b"POST /a?x=1&y=%C3%A9 HTTP/1.1\r\nHost: "
        + host
        + b"\r\nAccept: */*\r\nContent-Type: application/json\r\n"
        b"X-Key: k\r\nuser-agent: mine\r\nAccept-Encoding: identity\r\nContent-Length: 16\r\n\r\n" + body,
        b"GET / HTTP/1.1\r\nHost: " + host + b"\r\nUser-Agent: jobdeck\r\nAccept: */*\r\n"
        b"Accept-Encoding: identity\r\n\r\n",
    ]
    assert (got.status, got.ok, got.body, got.truncated) == (200, True, b"ok", False)
    assert got.url == f"{server.url}/a?x=1&y=%C3%A9"
    assert got.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert (got.headers["x-y"], got.headers.get("X-Z"), len(got.headers)) == ("z", None, 3)
    assert list(got.headers) == ["content-length", "set-cookie", "x-y"]
    assert "a=1" not in repr(got)


async def test_keep_alive(serve: Serve, client: GuardedClient) -> None:
    """A second request uses the open connection again, and then spends no time on connecting."""
    server = await serve(answering(response(b"1"), response(b"2"), response(b"3")))
    first = await client.request("GET", server.url)
    second = await client.request("GET", server.url)
    assert (first.body, second.body, server.connections) == (b"1", b"2", 1)
    assert first.timing.connect_ms > 0
    assert second.timing.connect_ms == 0


async def test_a_connection_closed_by_the_server_is_replaced(serve: Serve, client: GuardedClient) -> None:
    """A server that ends keep-alive costs no request."""

    hang_up = asyncio.Event()

    async def once(peer: Peer) -> None:
        await peer.request()
        await peer.send(response(b"ok"))
        await hang_up.wait()

    server = await serve(once)
    for _ in range(3):
        hang_up.clear()
        assert (await client.request("GET", server.url)).body == b"ok"
        hang_up.set()
        await server.idle.wait()
    assert server.connections == 3


async def test_an_old_connection_is_not_used_again(
    serve: Serve, client: GuardedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After two seconds without use a connection is replaced, before the server may be closing it."""
    server = await serve(answering(response(b"ok")))
    await client.request("GET", server.url)
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + 2.1)
    await client.request("GET", server.url)
    assert server.connections == 2


async def test_timing(serve: Serve, client: GuardedClient) -> None:
    """Each pause of the server shows in its own part, and the parts do not exceed the total."""

    async def slow(peer: Peer) -> None:
        await peer.request()
        await asyncio.sleep(0.05)
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n1")
        await asyncio.sleep(0.1)
        await peer.send(b"2")

    server = await serve(slow)
    timing = (await client.request("GET", server.url)).timing
    assert timing.ttfb_ms >= 45
    assert timing.transfer_ms >= 95
    assert timing.connect_ms + timing.ttfb_ms + timing.transfer_ms <= timing.total_ms + 0.01


@pytest.mark.parametrize(
    "status", [b"301 Moved", b"302 Found", b"303 Other", b"307 Temporary", b"308 Permanent"]
)
@pytest.mark.parametrize(
    "location", [b"http://169.254.169.254/latest/", b"http://127.0.0.1:1/", b"http://[", b"/again"]
)
async def test_a_redirect_is_returned(
    serve: Serve, client: GuardedClient, status: bytes, location: bytes
) -> None:
    """One request on one connection, whatever the target of the redirect is; the answer is not ok."""
    server = await serve(
        answering(response(b"", b"Location: " + location, b"Refresh: 0;url=/x", status=status))
    )
    got = await client.request("POST", server.url, content=b"x")
    assert (got.status, got.ok) == (int(status[:3]), False)
    assert got.headers["location"] == location.decode()
    assert (server.connections, len(server.requests)) == (1, 1)


async def test_the_environment_is_ignored(
    serve: Serve, client: GuardedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy or credentials in the environment of the worker change nothing."""
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server = await serve(answering(response(b"ok")))
    async with GuardedClient(AddressPolicy(["127.0.0.1"])) as fresh:
        assert (await fresh.request("GET", server.url)).body == b"ok"
    assert os.environ["HTTP_PROXY"]


async def test_no_cookie_is_kept(serve: Serve, client: GuardedClient) -> None:
    """A cookie of one run's request never reaches another request."""
    server = await serve(answering(response(b"", b"Set-Cookie: session=1")))
    await client.request("GET", server.url)
    await client.request("GET", server.url)
    assert b"ookie" not in server.requests[1]


@pytest.mark.parametrize(
    "arguments",
    [
        {"headers": {"X": "a\r\nHost: b"}},
        {"headers": {"Host": "b"}},
        {"headers": {"Transfer-Encoding": "chunked"}},
        {"headers": {"Content-Length": "0"}},
        {"headers": {"webhook-id": "1"}},
        {"headers": {"X": "v" * 1_000_000}},
        {"json": {1, 2}},
        {"json": float("nan")},
        {"json": "\ud800"},
        {"json": 1, "content": b"x"},
        {"deadline": 0},
        {"deadline": float("inf")},
        {"max_bytes": 0},
        {"method": "CONNECT"},
        {"method": "TRACE"},
        {"method": "GET / HTTP/1.1\r\nX: y"},
    ],
)
async def test_a_request_that_breaks_a_rule_is_not_sent(
    serve: Serve, client: GuardedClient, arguments: dict[str, Any]
) -> None:
    """Nothing reaches the wire, not even a connection."""
    server = await serve(answering(response()))
    with pytest.raises(InvalidRequest) as caught:
        await client.request(arguments.pop("method", "POST"), server.url, **arguments)
    assert caught.value.exit_code == 2
    assert server.connections == 0


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_methods(serve: Serve, client: GuardedClient, method: str) -> None:
    """Every method works without a body; a HEAD response announces a body and has none."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + (b"" if method == "HEAD" else b"hello")
    server = await serve(answering(answer))
    for _ in range(2):
        got = await client.request(method, server.url, max_bytes=1 if method == "HEAD" else 5)
        assert got.body == (b"" if method == "HEAD" else b"hello")
    assert server.connections == 1
    assert (b"Content-Length: 0" in server.requests[0]) == (method in ("POST", "PUT", "PATCH"))


async def test_the_cap_is_exact(serve: Serve, client: GuardedClient) -> None:
    """A body of `max_bytes` passes whole; one byte more is an error, or is cut if the caller asked for it."""
    server = await serve(answering(response(b"x" * 100)))
    exact = await client.request("GET", server.url, max_bytes=100)
    assert (len(exact.body), exact.truncated) == (100, False)
    with pytest.raises(ResponseTooLarge, match="more than 99 bytes"):
        await client.request("GET", server.url, max_bytes=99)
    cut = await client.request("GET", server.url, max_bytes=99, on_overflow="truncate")
    assert (len(cut.body), cut.truncated, cut.status) == (99, True, 200)
    with pytest.raises(BadResponse, match="cut after 99 bytes"):
        cut.json()
    await server.idle.wait()


async def test_the_cap_without_a_length(serve: Serve, client: GuardedClient) -> None:
    """A chunked body is cut at the same byte as one with a length."""
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"32\r\n" + b"x" * 50 + b"\r\n"
    server = await serve(answering(chunked + chunked[47:] + b"0\r\n\r\n"))
    assert len((await client.request("GET", server.url, max_bytes=100)).body) == 100
    with pytest.raises(ResponseTooLarge):
        await client.request("GET", server.url, max_bytes=99)


async def test_refused_and_unknown(client: GuardedClient) -> None:
    """A closed port and a name without an address say so in the words of the system."""
    reserved = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = reserved.sockets[0].getsockname()[1]
    reserved.close()
    await reserved.wait_closed()
    with pytest.raises(ConnectFailed, match="Connection refused"):
        await client.request("GET", f"http://127.0.0.1:{port}")
    with pytest.raises(ConnectFailed, match=r"name nothing\.invalid cannot be resolved"):
        await client.request("GET", "https://nothing.invalid/")


async def test_ipv6_literal(serve: Serve, client: GuardedClient) -> None:
    """An IPv6 literal is dialled as such and stands in brackets in Host."""
    server = await serve(answering(response(b"ok")), host="::1")
    got = await client.request("GET", f"http://[0:0:0:0:0:0:0:1]:{server.port}/")
    assert got.body == b"ok"
    assert b"\r\nHost: [::1]:" in server.requests[0]


async def test_the_pool_is_bounded_by_the_deadline(serve: Serve) -> None:
    """A request that finds no free connection ends by its own deadline and says what it waited for."""
    client = GuardedClient(AddressPolicy(["127.0.0.1"]), per_host=100)
    release = asyncio.Event()

    async def held(peer: Peer) -> None:
        await peer.request()
        await release.wait()
        await peer.send(response(b"ok"))

    server = await serve(held)
    busy = [asyncio.create_task(client.request("GET", server.url)) for _ in range(20)]
    while server.connections < 20:
        await asyncio.sleep(0)
    with pytest.raises(DeadlineExceeded, match="waiting for a free connection"):
        await client.request("GET", server.url, deadline=0.05)
    release.set()
    assert [got.body for got in await asyncio.gather(*busy)] == [b"ok"] * 20
    await client.aclose()


def answer(body: bytes, *, truncated: bool = False, **headers: str) -> HttpResponse:
    named = Headers((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())
    return HttpResponse(200, named, body, truncated, HttpTiming(0, 0, 0, 0), "")


@pytest.mark.parametrize("body", [b'{"a":[1,2.5,null,true,"x"]}', b'\xef\xbb\xbf{"a":[1,2.5,null,true,"x"]}'])
def test_json(body: bytes) -> None:
    """JSON is read as UTF-8, with or without a byte order mark."""
    assert answer(body).json() == {"a": [1, 2.5, None, True, "x"]}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b'{"a":1,"a":2}',
        b"NaN",
        b"[Infinity]",
        b"1e999",
        b"[1,]",
        b"\xff",
        b'"\xe9"',
        b"[" * 100_000,
        b"1" * 5_000,
        '{"a":1}'.encode("utf-16"),
    ],
)
def test_not_json(body: bytes) -> None:
    """Everything that is not strict JSON is one kind of error with a short message."""
    with pytest.raises(BadResponse, match="JSON") as caught:
        answer(body).json()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        ("é".encode(), "", "é"),
        ("é".encode(), "text/plain; charset=UTF-8", "é"),
        ("é€".encode("cp1252"), "text/plain; charset=iso-8859-1", "é€"),
        ("é".encode("utf-16"), 'text/plain; charset="utf-16"', "é"),
        (b"\xff\x00", "text/plain", "\ufffd\x00"),
        (b"abc", "text/plain; charset=rot13", "abc"),
        (b"abc", "text/plain; charset=idna", "abc"),
        (b"abc", "text/plain; charset=../../x", "abc"),
    ],
)
def test_text(body: bytes, content_type: str, text: str) -> None:
    """A charset from the server picks among a few codecs; it cannot fail and cannot load another module."""
    assert answer(body, content_type=content_type).text() == text


async def test_blocked_by_the_server_config_only(client: GuardedClient) -> None:
    """The list opens what it names and nothing beside it."""
    with pytest.raises(BlockedAddress):
        await client.request("GET", "https://127.0.0.2/")
