"""A proxy on the loopback between jobdeck and PostgreSQL that can break whatever passes through it.

It reads both directions as PostgreSQL's protocol: so it can cut a connection at the very COMMIT of a chosen kind of
transaction, hold back what a LISTEN would hear, or fall silent without a word to either side.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

_SSL_REQUEST = 80877103
_GSS_REQUEST = 80877104
_NO_WAIT = struct.pack("ii", 1, 0)
_CHUNK = 65_536
# Seconds for which a late COMMIT is held back: whoever asks at once asks too early.
_LATE = 0.5


class CommitCut(StrEnum):
    """Where the connection breaks around a COMMIT; the client sees the same each time."""

    BEFORE = "before"
    """The server never gets it."""
    SENT = "sent"
    """The server gets it at the same time as the end of the connection."""
    ANSWERED = "answered"
    """The server has carried it out; only the answer is lost."""
    LATE = "late"
    """The server gets it a good while after the client has lost the connection."""


# A transaction is of the kind of the table that only it inserts into.
KINDS = {"enqueue": "runs", "claim": "leases", "finish": "attempts", "report": "run_logs"}
_INSERTS = {name: re.compile(rf"INSERT INTO {table}\b") for name, table in KINDS.items()}
Wanted = Callable[[frozenset[str]], CommitCut | None]
"""Given the kinds of a transaction: where to cut its COMMIT, None for not at all."""


class Proxy:
    """Runs in a thread of its own; every method may be called from any thread and returns when it is done."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._links: set[_Link] = set()
        self._one_less = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self.refusing = False
        self.silent = False
        self.mute = False
        """Whether notifications are held back."""
        self.wanted: Wanted = lambda kinds: None
        self.cuts: list[tuple[frozenset[str], CommitCut]] = []
        """The COMMITs that were cut."""
        self.port = 0

    def start(self) -> None:
        """Listen on a port that is free."""
        self._thread.start()
        self._do(self._listen())

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Reset every connection, and every new one until `mend`."""
        self.refusing = True
        self._do(self._each(_Link.reset))

    def fall_silent(self, *, only_listeners: bool = False) -> None:
        """Forward nothing more on the connections there are; unless it is about listeners alone, nor on new ones."""
        self.silent = not only_listeners
        self._do(self._each(lambda link: link.hold() if link.listens or not only_listeners else None))

    def mend(self) -> None:
        """Accept connections and forward again, also what was held back meanwhile."""
        self.refusing = self.silent = False
        self._do(self._each(_Link.go_on))

    @property
    def listeners(self) -> int:
        """Connections on which a LISTEN has been sent."""
        return sum(link.listens for link in list(self._links))

    def stop(self) -> None:
        """End the connections and the thread."""
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._each(_Link.reset)
        while self._links:
            self._one_less.clear()
            await self._one_less.wait()

    async def _each(self, act: Callable[[_Link], None]) -> None:
        for link in list(self._links):
            act(link)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            _reset(writer)
            return
        try:
            to_server = await asyncio.open_unix_connection(str(self._target))
        except OSError:
            # As if the server's own port were closed.
            _reset(writer)
            return
        link = _Link(self, (reader, writer), to_server)
        self._links.add(link)
        if self.silent:
            link.hold()
        try:
            await link.run()
        finally:
            self._links.discard(link)
            self._one_less.set()


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Link:
    """One connection of a client and the one to the server that belongs to it."""

    def __init__(self, proxy: Proxy, client: Ends, server: Ends) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._open = asyncio.Event()
        self._open.set()
        self._broken = asyncio.Event()
        self._texts: dict[bytes, str] = {}
        self._kinds: set[str] = set()
        self._plain_bytes = 0
        self._cut: CommitCut | None = None
        self._held = b""
        self.listens = False

    async def run(self) -> None:
        """Forward until one of the two ends."""
        ways = [asyncio.create_task(self._to_server()), asyncio.create_task(self._to_client())]
        broken = asyncio.create_task(self._broken.wait())
        await asyncio.wait([*ways, broken], return_when=asyncio.FIRST_COMPLETED)
        for task in (*ways, broken):
            task.cancel()
        await asyncio.gather(*ways, broken, return_exceptions=True)
        if self._cut is CommitCut.LATE:
            await self._deliver_late()
        for _, writer in (self._client, self._server):
            writer.transport.abort()

    async def _deliver_late(self) -> None:
        reader, writer = self._server
        await asyncio.sleep(_LATE)
        writer.write(self._held)
        with contextlib.suppress(OSError):
            # Its answer too, for the server must not see the end of the connection first.
            await writer.drain()
            await reader.read(_CHUNK)

    def hold(self) -> None:
        self._open.clear()

    def go_on(self) -> None:
        self._open.set()

    def reset(self) -> None:
        """The client gets a reset, the server the end of the connection."""
        _reset(self._client[1])
        self._open.set()
        self._broken.set()

    # -- from the client ----------------------------------------------------------------------------------------

    async def _to_server(self) -> None:
        reader, writer = self._client[0], self._server[1]
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self._pass_startup(reader, writer)
            while True:
                kind, body = await _message(reader)
                await self._open.wait()
                if self._is_cut(kind, body):
                    self._held = kind + body
                    if self._cut is CommitCut.SENT or self._cut is CommitCut.ANSWERED:
                        writer.write(self._held)
                        await writer.drain()
                    if self._cut is not CommitCut.ANSWERED:
                        self.reset()
                        return
                    continue
                writer.write(kind + body)
                await writer.drain()

    async def _pass_startup(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            size = await reader.readexactly(4)
            body = await reader.readexactly(struct.unpack("!i", size)[0] - 4)
            await self._open.wait()
            code = struct.unpack("!i", body[:4])[0]
            if code in (_SSL_REQUEST, _GSS_REQUEST):
                # The answer is a single byte and no message.
                self._plain_bytes += 1
            writer.write(size + body)
            await writer.drain()
            if code not in (_SSL_REQUEST, _GSS_REQUEST):
                return

    def _is_cut(self, kind: bytes, body: bytes) -> bool:
        """Look at what the client says; whether it is a COMMIT that is to be cut."""
        text = self._said(kind, body)
        if text.startswith("LISTEN"):
            self.listens = True
        if text.startswith("BEGIN"):
            self._kinds.clear()
        self._kinds.update(name for name, pattern in _INSERTS.items() if pattern.search(text))
        if not text.startswith("COMMIT"):
            return False
        kinds = frozenset(self._kinds)
        self._cut = self._proxy.wanted(kinds)
        if self._cut is not None:
            self._proxy.cuts.append((kinds, self._cut))
        return self._cut is not None

    def _said(self, kind: bytes, body: bytes) -> str:
        """The statement that this message is about."""
        if kind == b"Q":
            return body[4:-1].decode()
        if kind == b"P":
            name, text, _ = body[4:].split(b"\0", 2)
            self._texts[name] = text.decode()
        if kind == b"B":
            _, name, _ = body[4:].split(b"\0", 2)
            return self._texts.get(name, "")
        return ""

    # -- from the server ----------------------------------------------------------------------------------------

    async def _to_client(self) -> None:
        reader, writer = self._server[0], self._client[1]
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                kind, body = await self._answer(reader)
                await self._open.wait()
                if self._cut is CommitCut.ANSWERED and kind == b"C":
                    self.reset()
                    return
                if kind == b"A" and self._proxy.mute:
                    continue
                writer.write(kind + body)
                await writer.drain()

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
        kind = await reader.readexactly(1)
        if self._plain_bytes:
            self._plain_bytes -= 1
            return kind, b""
        return kind, await _body(reader)


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    kind = await reader.readexactly(1)
    return kind, await _body(reader)


async def _body(reader: asyncio.StreamReader) -> bytes:
    size = await reader.readexactly(4)
    return size + await reader.readexactly(struct.unpack("!i", size)[0] - 4)


def _reset(writer: asyncio.StreamWriter) -> None:
    sock: socket.socket = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_WAIT)
    writer.transport.abort()


@contextmanager
def proxy_before(url: str) -> Iterator[tuple[Proxy, str]]:
    """A proxy before the server of `url`, which listens on a Unix socket, and the URL that leads through it."""
    parts = urlsplit(url)
    folder = parse_qs(parts.query)["host"][0]
    proxy = Proxy(Path(folder) / ".s.PGSQL.5432")
    proxy.start()
    try:
        through = parts._replace(netloc=f"postgres@127.0.0.1:{proxy.port}", query="")
        yield proxy, through.geturl()
    finally:
        proxy.stop()
