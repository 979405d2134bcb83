"""The least that a durable pick-up costs here: a job committed by one side, and its claim committed by the other.

Done now and then, as `wakeups` does, so that everything has gone to sleep in between; by the bare drivers. In the same
process both are one transaction, and it is made on another thread on SQLite. Answers with milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import queue
import random
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import asyncpg

from bench.limits.asyncpg_postgres import SCHEMA
from bench.limits.job_table import connect, fill
from bench.limits.wakeups import GAPS_S

_PATIENCE = 10.0
_INSERT_SQLITE = "INSERT INTO job (team, type, due_at, created_at, payload) VALUES (1, 'type1', 1, 1, ?)"
_CLAIM_SQLITE = """
UPDATE job SET status = 1, attempts = attempts + 1, worker = 'w', lease_until = 1
WHERE id IN (SELECT id FROM job WHERE status = 0 AND due_at <= 1 ORDER BY priority, due_at, id LIMIT 1)
RETURNING payload
"""
_INSERT_POSTGRES = "INSERT INTO job (team, type, payload) VALUES (1, 'type1', $1::jsonb)"
_CLAIM_POSTGRES = """
UPDATE job SET status = 1, attempts = attempts + 1, worker = 'w', lease_until = now() + interval '30 s'
WHERE id = ANY (ARRAY(
    SELECT id FROM job WHERE status = 0 AND due_at <= now() ORDER BY priority, due_at, id LIMIT 1
    FOR UPDATE SKIP LOCKED))
RETURNING payload::text
"""


def _gap() -> float:
    return random.uniform(*GAPS_S)


def _since(sent_ns: str | int) -> float:
    return (time.monotonic_ns() - int(sent_ns)) / 1e6


def _claim_sqlite(conn: sqlite3.Connection) -> str:
    ((sent_ns,),) = conn.execute(_CLAIM_SQLITE).fetchall()
    return str(sent_ns)


async def same_sqlite(count: int, path: Path) -> list[float]:
    """An event loop asks its writing thread, which answers to the loop."""
    loop, waits = asyncio.get_running_loop(), []
    asked: queue.SimpleQueue[asyncio.Future[str] | None] = queue.SimpleQueue()

    def write() -> None:
        conn = connect(path)
        while (answer := asked.get()) is not None:
            conn.execute("BEGIN IMMEDIATE")
            conn.execute(_INSERT_SQLITE, (str(time.monotonic_ns()),))
            found = _claim_sqlite(conn)
            conn.execute("COMMIT")
            loop.call_soon_threadsafe(answer.set_result, found)

    fill(path, 0).close()
    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    for _ in range(count):
        await asyncio.sleep(_gap())
        sent_ns = time.monotonic_ns()
        answer = loop.create_future()
        asked.put(answer)
        await asyncio.wait_for(answer, _PATIENCE)
        waits.append(_since(sent_ns))
    asked.put(None)
    writer.join()
    return waits


def other_sqlite(count: int, path: Path) -> list[float]:
    """One process commits and sends a datagram, the other one claims."""
    waits, place = [], path.with_suffix(".s")
    with fill(path, 0) as conn, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(place))
        sock.settimeout(_PATIENCE)
        with _maker("make_sqlite", count, path):
            for _ in range(count):
                sock.recv(32)
                waits.append(_since(_claim_sqlite(conn)))
    return waits


def make_sqlite(count: int, path: Path) -> None:
    """The other process of `other_sqlite`."""
    conn = connect(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        for _ in range(count):
            time.sleep(_gap())
            conn.execute(_INSERT_SQLITE, (str(time.monotonic_ns()),))
            sock.sendto(b"job", str(path.with_suffix(".s")))


async def same_postgres(count: int, url: str) -> list[float]:
    """One connection, one transaction."""
    waits = []
    conn = await asyncpg.connect(url)
    await conn.execute(SCHEMA)
    for _ in range(count):
        await asyncio.sleep(_gap())
        sent_ns = time.monotonic_ns()
        async with conn.transaction():
            await conn.execute(_INSERT_POSTGRES, str(sent_ns))
            await conn.fetch(_CLAIM_POSTGRES)
        waits.append(_since(sent_ns))
    await conn.close()
    return waits


async def other_postgres(count: int, url: str) -> list[float]:
    """One process commits and notifies, the other one claims."""
    waits, heard = list[float](), asyncio.Semaphore(0)
    listener, conn = await asyncpg.connect(url), await asyncpg.connect(url)
    await conn.execute(SCHEMA)
    await listener.add_listener("bench_pickup", lambda *_: heard.release())
    with _maker("make_postgres", count, url):
        for _ in range(count):
            await asyncio.wait_for(heard.acquire(), _PATIENCE)
            waits.append(_since(await conn.fetchval(_CLAIM_POSTGRES)))
    await listener.close()
    await conn.close()
    return waits


async def make_postgres(count: int, url: str) -> None:
    """The other process of `other_postgres`."""
    conn = await asyncpg.connect(url)
    for _ in range(count):
        await asyncio.sleep(_gap())
        async with conn.transaction():
            await conn.execute(_INSERT_POSTGRES, str(time.monotonic_ns()))
            await conn.execute("NOTIFY bench_pickup")
    await conn.close()


def _maker(what: str, count: int, place: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "bench.limits.bare_pickup", what, str(count), str(place)])


_SIDES: Final[dict[str, Callable[[int, Any], Any]]] = {
    "same_sqlite": same_sqlite,
    "other_sqlite": other_sqlite,
    "make_sqlite": make_sqlite,
    "same_postgres": same_postgres,
    "other_postgres": other_postgres,
    "make_postgres": make_postgres,
}


def main(what: str, count: int, place: str) -> Any:
    """One side of one of them."""
    found = _SIDES[what](count, Path(place) if what.endswith("_sqlite") else place)
    return asyncio.run(found) if asyncio.iscoroutine(found) else found


if __name__ == "__main__":
    answer = main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
    if answer is not None:
        print(json.dumps(answer))
