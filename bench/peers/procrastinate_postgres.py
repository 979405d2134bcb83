"""procrastinate on PostgreSQL by psycopg, 50 jobs at a time; jobs and events are kept, as is its default."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import procrastinate

from bench.marks import mark
from bench.payload import payload
from bench.peers.script import Script, chunks, run, storage

CONCURRENCY = 50
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=storage(), max_size=20))


@app.task(name="job")
async def job(params: dict[str, Any]) -> None:
    """End at once."""
    mark(params["sent_ns"])


async def set_up() -> None:
    """Its tables."""
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


async def one(count: int) -> float:
    """Seconds for so many jobs, made one by one."""
    async with app.open_async():
        started = time.perf_counter()
        for _ in range(count):
            await job.defer_async(params=payload())
        return time.perf_counter() - started


async def bulk(count: int) -> float:
    """Seconds for so many jobs, made by its own bulk call."""
    async with app.open_async():
        started = time.perf_counter()
        for size in chunks(count):
            await job.batch_defer_async(*({"params": payload()} for _ in range(size)))
        return time.perf_counter() - started


async def work() -> None:
    """The worker."""
    async with app.open_async():
        await app.run_worker_async(concurrency=CONCURRENCY)


if __name__ == "__main__":
    run(
        Script(
            set_up=lambda: asyncio.run(set_up()),
            one=lambda count: asyncio.run(one(count)),
            bulk=lambda count: asyncio.run(bulk(count)),
            work=lambda: asyncio.run(work()),
        )
    )
