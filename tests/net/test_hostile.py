"""The client against servers that mean harm (reliability S4; case S03)."""

from __future__ import annotations

import asyncio
import gc
import time
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from jobdeck.net import BadResponse, DeadlineExceeded, GuardedClient, ResponseTooLarge

from .conftest import Peer, Script, Server, answering, response

Serve = Callable[..., Awaitable[Server]]

MIB = 1024 * 1024
HEAD = b"HTTP/1.1 200 OK\r\n"


def flooding(first: bytes, again: bytes, limit: int = 64 * MIB) -> Script:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(first)
        await peer.flood(again, limit)

    return script


def dripping(first: bytes, again: bytes) -> Script:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(first)
        while True:
            await asyncio.sleep(0.01)
            await peer.send(again)

    return script


async def silent(peer: Peer) -> None:
    while await peer.reader.read(1_000):
        pass


async def never_reading(peer: Peer) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("script", "phase"),
    [
        (silent, "waiting for the response"),
        (dripping(b"", b"H"), "waiting for the response|broke off"),
        (dripping(HEAD, b"X: y\r\n"), "waiting for the response"),
        (dripping(b"", b"HTTP/1.1 102 Processing\r\n\r\n"), "waiting for the response"),
        (dripping(HEAD + b"Content-Length: 60000\r\n\r\n", b"x"), "reading the body"),
        (dripping(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"), "reading the body"),
        (dripping(HEAD + b"\r\n", b"x"), "reading the body"),
        (dripping(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n"), "reading the body"),
    ],
)
async def test_the_deadline_covers_the_whole_exchange(
    serve: Serve, client: GuardedClient, script: Script, phase: str
) -> None:
    """A server that always sends a little more ends with the deadline, and the connection is closed."""
    server = await serve(script)
    started = time.monotonic()
    with pytest.raises((DeadlineExceeded, BadResponse), match=phase):
        await client.request("GET", server.url, deadline=0.3)
    assert time.monotonic() - started < 1.5
    await server.idle.wait()


async def test_the_deadline_covers_sending(serve: Serve, client: GuardedClient) -> None:
    """A server that does not read the request cannot hold it."""
    server = await serve(never_reading)
    with pytest.raises(DeadlineExceeded, match="sending the request"):
        await client.request("POST", server.url, content=b"x" * 32 * MIB, deadline=0.3)
    assert server.connections == 1


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (flooding(HEAD, b"X-Header: " + b"y" * 990 + b"\r\n"), "headers|broke off"),
        (flooding(HEAD + b"X: ", b"y" * 1_000), "headers|broke off"),
        (flooding(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 40), "headers"),
        (flooding(b"", b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" * 40), "headers"),
        (flooding(b"", b"y" * 1_000), "headers|broke off"),
        (
            flooding(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"e" * 60_000 + b"\r\nx\r\n"),
            "framing",
        ),
        (
            flooding(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: " + b"y" * 990 + b"\r\n"),
            "broke off",
        ),
    ],
)
async def test_what_stands_around_a_body_is_bounded(
    serve: Serve, client: GuardedClient, script: Script, says: str
) -> None:
    """Endless headers, interim responses, chunk extensions and trailers end after about a megabyte.

    The server may get more than that into the buffers of the system before it learns that nobody reads.
    """
    server = await serve(script)
    with pytest.raises(BadResponse, match=says) as caught:
        await client.request("GET", server.url)
    assert len(str(caught.value)) < 400
    await server.idle.wait()
    assert server.sent < 16 * MIB


async def test_many_headers_in_one_packet(serve: Serve, client: GuardedClient) -> None:
    """A head that is whole before the budget is looked at is still counted."""
    server = await serve(answering(HEAD + b"a: b\r\n" * 300 + b"Content-Length: 0\r\n\r\n"))
    with pytest.raises(BadResponse, match="301 headers"):
        await client.request("GET", server.url)


def rss() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("on_overflow", ["truncate", "error"])
async def test_an_endless_body_is_cut(serve: Serve, client: GuardedClient, on_overflow: str) -> None:
    """Of 256 MiB at most the cap is kept; memory grows by less than 5 MiB."""
    server = await serve(flooding(HEAD + b"\r\n", b"x" * 65_536, 256 * MIB))
    await client.request("GET", server.url, on_overflow="truncate")
    gc.collect()
    before = rss()
    if on_overflow == "error":
        with pytest.raises(ResponseTooLarge):
            await client.request("GET", server.url)
    else:
        assert len((await client.request("GET", server.url, on_overflow="truncate")).body) == 65_536
    assert rss() - before < 5 * MIB


async def test_a_compressed_bomb_stays_compressed(serve: Serve, client: GuardedClient) -> None:
    """A gzip of 60 MiB of zeros stays as it came and is refused as text; memory does not grow."""
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(MIB)) for _ in range(60)) + packer.flush()
    server = await serve(answering(response(bomb, b"Content-Encoding: gzip")))
    await client.request("GET", server.url)
    gc.collect()
    before = rss()
    got = await client.request("GET", server.url)
    assert got.body == bomb
    for read in (got.json, got.text):
        with pytest.raises(BadResponse, match="compressed"):
            read()
    assert rss() - before < 5 * MIB
    assert b"Accept-Encoding: identity" in server.requests[0]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 2",
        HEAD,
        HEAD + b"Content-Length: 10\r\n\r\n123",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"+OK redis\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n12",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffffffff\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        HEAD + b"bad header\r\n\r\n",
        HEAD + b"\x00: x\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n\x00",
    ],
)
async def test_an_answer_that_is_broken(serve: Serve, client: GuardedClient, answer: bytes) -> None:
    """An early end, and all that is not HTTP/1.1, is one kind of error and closes the connection."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)
        peer.writer.write_eof()
        await peer.reader.read()

    server = await serve(script)
    if answer.startswith(b"HTTP/9.9"):
        assert (await client.request("GET", server.url)).body == b"\x00"
    else:
        with pytest.raises((BadResponse, ResponseTooLarge)) as caught:
            await client.request("GET", server.url)
        assert len(str(caught.value)) < 400
    await server.idle.wait()


async def test_a_server_that_hangs_up_at_once(serve: Serve, client: GuardedClient) -> None:
    """A reset before the answer is an error of the same kind, also with a large body under way."""

    async def script(peer: Peer) -> None:
        peer.writer.transport.abort()

    server = await serve(script)
    for content in (None, b"x" * 8 * MIB):
        with pytest.raises(BadResponse, match="broke off"):
            await client.request("POST", server.url, content=content)


async def test_an_answer_nobody_asked_for(serve: Serve, client: GuardedClient) -> None:
    """Bytes after the end of a response are not taken for the answer to the next request."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(response(b"first") + response(b"planted"))
        await peer.request()
        await peer.send(response(b"second"))

    server = await serve(script)
    assert (await client.request("GET", server.url)).body == b"first"
    with pytest.raises(BadResponse, match="before it was asked"):
        await client.request("GET", server.url)
    assert (await client.request("GET", server.url)).body == b"first"
    assert server.connections == 2
