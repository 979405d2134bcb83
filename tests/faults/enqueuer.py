"""A process that asks for runs, one by one, and may die on the way.

`python -m tests.faults.enqueuer CONFIG NAME COUNT QUEUE`: keys are NAME-0, NAME-1 and so on; what is asked for and
what is acknowledged goes into the ledger.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from jobdeck.bootstrap import open_client
from jobdeck.settings import load_settings
from tests.faults.killpoints import install
from tests.faults.ledger import ledger_of_environment


async def enqueue(config: Path, name: str, count: int, queue: str) -> None:
    """See the module."""
    ledger = ledger_of_environment()
    async with open_client(load_settings(config)) as client:
        for number in range(count):
            key = f"{name}-{number}"
            ledger.asked(key)
            ledger.enqueued({key: await client.runs.enqueue("work", {"key": key}, queue=queue)})


if __name__ == "__main__":
    install()
    asyncio.run(enqueue(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]))
