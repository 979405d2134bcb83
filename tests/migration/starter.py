"""Processes that all bring one new database to the schema of today; run by the tests as a program of its own.

`python -m tests.migration.starter URL COUNT` exits 0 when all of them could; each then works with the database.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
from multiprocessing.synchronize import Barrier

from jobdeck.store import migrate
from jobdeck.store.open import database_of, require_head, upgrade
from jobdeck.store.scopes import list_teams


async def _start(url: str) -> None:
    await upgrade(url)
    database = database_of(url, busy_timeout=60.0)
    await database.open()
    await require_head(database)
    await database.read(list_teams)
    await database.close()


def _process(url: str, start: Barrier) -> None:
    start.wait()
    asyncio.run(_start(url))


def main(url: str, count: int) -> int:
    """See the module; the exit code."""
    # Alembic is imported before the processes part, so that they meet at the database and not in the importing.
    assert migrate.head()
    context = multiprocessing.get_context("fork")
    start = context.Barrier(count, timeout=60)
    processes = [context.Process(target=_process, args=(url, start)) for _ in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return sum(process.exitcode != 0 for process in processes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
