"""A process that asks for runs, one by one, and may die on the way.

`python -m tests.faults.enqueuer CONFIG NAME COUNT QUEUE DELAY`: keys are NAME-0, NAME-1 and so on; what is asked
for and what is acknowledged goes into the ledger.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

from jobdeck.bootstrap import open_client
from jobdeck.settings import load_settings
from tests.faults import hostclock, killpoints
from tests.faults.ledger import ledger_of_environment


async def enqueue(config: Path, name: str, count: int, queue: str, delay: float) -> None:
    """See the module."""
    ledger = ledger_of_environment()
    async with open_client(load_settings(config)) as client:
        for number in range(count):
            key = f"{name}-{number}"
            ledger.asked(key)
            due = timedelta(seconds=delay) if delay else None
            ledger.enqueued({key: await client.runs.enqueue("work", {"key": key}, queue=queue, delay=due)})


if __name__ == "__main__":
    hostclock.install()
    killpoints.install()
    _, config, name, count, queue, delay = sys.argv
    asyncio.run(enqueue(Path(config), name, int(count), queue, float(delay)))
