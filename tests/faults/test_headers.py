"""Headers that would split a request, reach another host or fake a signature: refused before anything is stored."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import update

from jobdeck.client import Client
from jobdeck.errors import ValidationError
from jobdeck.store.schema import runs
from tests.faults.case import LONG_LEASE, Case
from tests.faults.cli import said
from tests.faults.invariants import Breach
from tests.faults.workers import merged

ALLOW = {"http": {"allow": ["127.0.0.1/32"]}}
GOOD = {"X-A": "b", "Authorization": "Bearer x"}
_LINE = "\r\nX-Smuggled: 1"
BAD: dict[str, dict[str, Any]] = {
    "CRLF in a value": {"X-A": f"1{_LINE}"},
    "CRLF and a second request": {"X-A": "1\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"},
    "a bare line feed": {"X-A": "1\nX-Smuggled: 1"},
    "a bare carriage return": {"X-A": "1\rX-Smuggled: 1"},
    "NUL": {"X-A": "1\x00"},
    "CRLF in a name": {f"X-A: 1{_LINE}": "1"},
    "a colon in a name": {"X-A: 1": "1"},
    "no name": {"": "1"},
    "a blank in a name": {"X A": "1"},
    "Host": {"Host": "metadata.internal"},
    "host": {"host": "metadata.internal"},
    "Content-Length": {"Content-Length": "0"},
    "Transfer-Encoding": {"Transfer-Encoding": "chunked"},
    "transfer-encoding": {"tRANSFER-eNCODING": "chunked"},
    "TE": {"TE": "trailers"},
    "Trailer": {"Trailer": "X-A"},
    "Connection": {"Connection": "X-A"},
    "Upgrade": {"Upgrade": "h2c"},
    "Expect": {"Expect": "100-continue"},
    "Proxy-Authorization": {"Proxy-Authorization": "Basic x"},
    "webhook-id": {"webhook-id": "msg_1"},
    "webhook-timestamp": {"webhook-timestamp": "1"},
    "Webhook-Signature": {"Webhook-Signature": "v1,x"},
    "a name outside ASCII": {"X-Ä": "1"},
    "a value outside ASCII": {"X-A": "ä"},
    "a look-alike of Host": {"Ｈost": "1"},
    "another line separator": {"X-A": "1\u2028X-Smuggled: 1"},
    "the same twice": {"X-A": "1", "x-a": "2"},
    "33 of them": {f"X-{n}": "1" for n in range(33)},
    "9 KiB": {"X-A": "v" * 9_216},
    "a value of 1 MB": {"X-A": "v" * 1_000_000},
    "a name of 1 MB": {"X" * 1_000_000: "1"},
    "a number": {"X-A": 1},
    "a list": {"X-A": ["1", "2"]},
    "CRLF behind a scheme": {"Authorization": f"Bearer x{_LINE}"},
}

OF_EACH_KIND = ("CRLF in a value", "CRLF in a name", "Host", "TE", "webhook-id", "a value of 1 MB", "a list")
# A batch with a longer line is refused as a whole.
LINE_BYTES = 100_000


async def test_s14_headers(case: Case) -> None:
    """Whoever asks is refused with exit code 2 and in one line; of what is stored by hand nothing is sent."""
    async with capturing() as host, case.client(ALLOW) as client:
        more = [breach async for breach in _taken(client, host.url)]
        more += [breach async for breach in _not_refused(case, host.url)]
        if stored := {name: count for name, count in (await client.runs.counts()).items() if count}:
            more.append(Breach("S14", "-", f"{stored} were stored"))
        plain = {"url": host.url, "method": "GET", "headers": GOOD}
        good = await client.runs.enqueue("http", plain)
        bad = [await client.runs.enqueue("http", plain) for _ in BAD]
        with case.connection() as conn:
            for run_id, headers in zip(bad, BAD.values(), strict=True):
                params = json.dumps(plain | {"headers": headers}).replace("\\u0000", "\\u0001")
                conn.execute(update(runs).where(runs.c.id == run_id).values(params=params))
        case.workers.start(settings=merged(ALLOW, LONG_LEASE))
        await case.settled()
        shown = {name: await client.runs.show(run_id) for name, run_id in zip(BAD, bad, strict=True)}
        sent = await client.runs.show(good)
    more += [
        Breach("S14", name, f"ended as {run.status}: {run.error}")
        for name, run in shown.items()
        if (run.status, run.failure_kind) != ("failed", "invalid_params")
    ]
    more += [Breach("S14", "-", f"was sent: {came!r:.200}") for came in host.heard[1:]]
    assert sent.status == "completed", sent.error
    lines = host.heard[0].decode("ascii").split("\r\n")
    own = [line for line in lines if line.startswith(("X-", "Authorization"))]
    assert (lines[0], own) == ("GET / HTTP/1.1", ["X-A: b", "Authorization: Bearer x"])
    case.judge(more=more, faults=len(BAD), note=f"{len(BAD)} headers; {len(host.heard)} request was sent")


async def _taken(client: Client, url: str) -> AsyncIterator[Breach]:
    """What the client takes, for a run or for a saved job."""
    for name, headers in BAD.items():
        params = {"url": url, "headers": headers}
        for ask in (
            client.runs.trigger("http", params),
            client.jobs.create("a", {"type": "http", "params": params}),
        ):
            try:
                await ask
            except ValidationError as error:
                if "\n" in str(error) or len(str(error)) > 1_000:
                    yield Breach("S14", name, f"is refused with {str(error)!r:.200}")
            else:
                yield Breach("S14", name, "is taken")


async def _not_refused(case: Case, url: str) -> AsyncIterator[Breach]:
    """What the command line does not refuse with exit code 2: one after the other, and all in one batch."""
    asked = {name: {"url": url, "headers": headers} for name, headers in BAD.items()}
    for name in OF_EACH_KIND:
        code, _, told = await said(case, "trigger", "http", "--params", "-", stdin=json.dumps(asked[name]))
        if code != 2 or told.count("\n") > 1:
            yield Breach("S14", name, f"exit code {code}: {told:.200}")
    lines = [json.dumps({"type": "http", "params": params}) for params in asked.values()]
    short = [line for line in lines if len(line) < LINE_BYTES]
    code, _, told = await said(case, "trigger", "--batch", "-", stdin="\n".join(short))
    if code != 2 or f"0 created, 0 there already, {len(short)} failed" not in told:
        yield Breach("S14", "batch", f"exit code {code}: {told:.500}")


@dataclass
class Capture:
    """A host that keeps every byte it is sent, connection by connection, and says 200 to each request."""

    port: int = 0
    heard: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hear one connection to its end."""
        came = b""
        while data := await reader.read(65_536):
            came += data
            if came.endswith(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                writer.write_eof()
        self.heard.append(came)
        writer.close()


@asynccontextmanager
async def capturing() -> AsyncIterator[Capture]:
    """One on loopback, for the block."""
    host = Capture()
    server = await asyncio.start_server(host.serve, "127.0.0.1", 0)
    host.port = server.sockets[0].getsockname()[1]
    async with server:
        yield host
