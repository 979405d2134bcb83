"""The bare wake-up: from one side that knows something to another that waits for it, with nothing stored.

`thread` is one thread to the event loop of another; `datagram` one process to another by a Unix datagram;
`notify` one process to another by NOTIFY of PostgreSQL. Answers with milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import asyncpg

GAPS_S = (0.010, 0.030)
_PATIENCE = 10.0


def _gap() -> float:
    return random.uniform(*GAPS_S)


async def thread(count: int) -> list[float]:
    """`call_soon_threadsafe`."""
    loop, waits, woken = asyncio.get_running_loop(), list[float](), asyncio.Event()

    def hear(sent_ns: int) -> None:
        waits.append((time.monotonic_ns() - sent_ns) / 1e6)
        if len(waits) == count:
            woken.set()

    def tell() -> None:
        for _ in range(count):
            time.sleep(_gap())
            loop.call_soon_threadsafe(hear, time.monotonic_ns())

    teller = threading.Thread(target=tell)
    teller.start()
    await woken.wait()
    teller.join()
    return waits


def datagram(count: int, place: Path) -> list[float]:
    """A datagram that carries the time of its sending."""
    waits = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(place))
        sock.settimeout(_PATIENCE)
        with _teller("tell_datagrams", str(count), str(place)):
            for _ in range(count):
                sent_ns = int(sock.recv(32))
                waits.append((time.monotonic_ns() - sent_ns) / 1e6)
    return waits


def tell_datagrams(count: int, place: str) -> None:
    """The other process of `datagram`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        for _ in range(count):
            time.sleep(_gap())
            sock.sendto(str(time.monotonic_ns()).encode(), place)


async def notify(count: int, url: str) -> list[float]:
    """A notification that carries the time of its sending."""
    waits, enough = list[float](), asyncio.Event()

    def hear(_conn: Any, _pid: int, _channel: str, sent_ns: str) -> None:
        waits.append((time.monotonic_ns() - int(sent_ns)) / 1e6)
        if len(waits) == count:
            enough.set()

    conn = await asyncpg.connect(url)
    try:
        await conn.add_listener("bench_wakeup", hear)
        with _teller("tell_notifications", str(count), url):
            await asyncio.wait_for(enough.wait(), _PATIENCE + count * GAPS_S[1])
    finally:
        await conn.close()
    return waits


async def tell_notifications(count: int, url: str) -> None:
    """The other process of `notify`."""
    conn = await asyncpg.connect(url)
    try:
        for _ in range(count):
            await asyncio.sleep(_gap())
            await conn.execute(f"NOTIFY bench_wakeup, '{time.monotonic_ns()}'")
    finally:
        await conn.close()


def _teller(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "bench.limits.wakeups", *arguments])


def main(what: str, count: int, *place: str) -> list[float] | None:
    """One side of one of the three."""
    if what == "thread":
        return asyncio.run(thread(count))
    if what == "datagram":
        return datagram(count, Path(place[0]))
    if what == "notify":
        return asyncio.run(notify(count, place[0]))
    if what == "tell_datagrams":
        tell_datagrams(count, place[0])
    else:
        asyncio.run(tell_notifications(count, place[0]))
    return None


if __name__ == "__main__":
    answer = main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
    if answer is not None:
        print(json.dumps(answer))
