"""Many runs, many workers: each run once, and nobody starves."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from uuid import UUID

from jobdeck import Context, handler
from tests.databases import opened
from tests.engine.bench import Bench, bench_on


async def test_eight_workers_do_each_run_once(bench: Bench) -> None:
    """500 runs, async and sync, over 8 workers in one process: none twice, none lost, everybody gets some."""
    performed: Counter[UUID] = Counter()

    @handler("quick")
    async def quick(ctx: Context) -> None:
        performed[ctx.run_id] += 1
        await asyncio.sleep(0)

    @handler("plain")
    def plain(ctx: Context) -> None:
        performed[ctx.run_id] += 1

    async def all_done() -> bool:
        return await bench.statuses() == {"completed": 500}

    bench.offer(quick, plain)
    async with AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(bench.working(quick, plain, concurrency=5)) for _ in range(8)
        ]
        ids = await bench.client.runs.trigger_many("quick", [{}] * 450)
        ids += await bench.client.runs.trigger_many("plain", [{}] * 50)
        await bench.eventually(all_done)
        shares = [worker.slots.finished for worker in workers]
    assert performed == Counter(ids)
    assert sum(shares) == 500
    assert min(shares) > 0


async def test_workers_on_connections_of_their_own(database_url: str) -> None:
    """Workers that share nothing but the database, as processes do: each run once."""
    performed: Counter[UUID] = Counter()

    @handler("quick")
    async def quick(ctx: Context) -> None:
        performed[ctx.run_id] += 1

    async with opened(database_url) as first, opened(database_url) as second:
        benches = [await bench_on(first), await bench_on(second)]

        async def all_done() -> bool:
            return await benches[0].statuses() == {"completed": 200}

        benches[0].offer(quick)
        ids = await benches[0].client.runs.trigger_many("quick", [{}] * 200)
        async with benches[0].working(quick) as one, benches[1].working(quick) as two:
            await benches[0].eventually(all_done)
        assert performed == Counter(ids)
        assert min(one.slots.finished, two.slots.finished) > 0
        for bench in benches:
            bench.client.close()
