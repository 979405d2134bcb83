"""A process that makes runs by `jobdeck.client`: `python -m bench.producer CONFIG MODE COUNT`; answers in JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.payload import payload
from jobdeck.bootstrap import open_client
from jobdeck.client import Client
from jobdeck.settings import load_settings

GAPS_S = (0.010, 0.030)
"""Between two runs of `timed`: long enough for a worker to have gone back to sleep."""
_AT_A_TIME = 100
_TYPE = "bench_noop"


class Producer:
    """Makes runs that do nothing."""

    def __init__(self, client: Client, options: argparse.Namespace) -> None:
        self._client = client
        self._batch = options.batch

    async def one(self, count: int) -> None:
        """One after the other."""
        for _ in range(count):
            await self._client.runs.enqueue(_TYPE, payload())

    async def concurrent(self, count: int) -> None:
        """A hundred tasks, each one after the other."""
        parts = [count // _AT_A_TIME + (number < count % _AT_A_TIME) for number in range(_AT_A_TIME)]
        await asyncio.gather(*map(self.one, parts))

    async def bulk(self, count: int) -> None:
        """Many by one call."""
        for start in range(0, count, self._batch):
            params = [payload() for _ in range(min(self._batch, count - start))]
            await self._client.runs.trigger_many(_TYPE, params)

    async def timed(self, count: int) -> None:
        """One now and then."""
        for _ in range(count):
            await self._client.runs.enqueue(_TYPE, payload())
            await asyncio.sleep(random.uniform(*GAPS_S))


async def produce(options: argparse.Namespace) -> float:
    """Seconds it took, without opening the client."""
    async with open_client(load_settings(options.config)) as client:
        make: Callable[[int], Awaitable[None]] = getattr(Producer(client, options), options.mode)
        started = time.perf_counter()
        await make(options.count)
        return time.perf_counter() - started


def main() -> None:
    """Read the arguments, make the runs, print the seconds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=Path)
    parser.add_argument("mode", choices=("one", "concurrent", "bulk", "timed"))
    parser.add_argument("count", type=int)
    parser.add_argument("--batch", type=int, default=500)
    print(json.dumps(asyncio.run(produce(parser.parse_args()))))


if __name__ == "__main__":
    main()
