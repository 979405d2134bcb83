"""pgqueuer on PostgreSQL by asyncpg, dequeuing 100 at a time, its own default of no cap on concurrent jobs.

A finished job moves to a log of statuses; payload and result are not kept.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

from bench.marks import mark
from bench.payload import payload
from bench.peers.script import Script, chunks, run, storage

BATCH = 100


@asynccontextmanager
async def connected() -> AsyncIterator[AsyncpgDriver]:
    """One connection."""
    conn = await asyncpg.connect(storage())
    try:
        yield AsyncpgDriver(conn)
    finally:
        await conn.close()


async def set_up() -> None:
    """Its tables."""
    async with connected() as driver:
        await Queries(driver).install()


async def one(count: int) -> float:
    """Seconds for so many jobs, made one by one."""
    async with connected() as driver:
        queries, started = Queries(driver), time.perf_counter()
        for _ in range(count):
            await queries.enqueue("job", _body(), 0)
        return time.perf_counter() - started


async def bulk(count: int) -> float:
    """Seconds for so many jobs, made by its own bulk call."""
    async with connected() as driver:
        queries, started = Queries(driver), time.perf_counter()
        for size in chunks(count):
            await queries.enqueue(["job"] * size, [_body() for _ in range(size)], [0] * size)
        return time.perf_counter() - started


async def work() -> None:
    """The worker."""
    async with connected() as driver:
        runner = PgQueuer(driver)

        @runner.entrypoint("job")
        async def job(given: Any) -> None:
            mark(json.loads(given.payload)["sent_ns"])

        await runner.run(batch_size=BATCH)


def _body() -> bytes:
    return json.dumps(payload()).encode()


if __name__ == "__main__":
    run(
        Script(
            set_up=lambda: asyncio.run(set_up()),
            one=lambda count: asyncio.run(one(count)),
            bulk=lambda count: asyncio.run(bulk(count)),
            work=lambda: asyncio.run(work()),
        )
    )
