"""Processes that claim and finish runs until none is left; run by the tests as a program of its own.

`python -m tests.store.claimer URL COUNT` starts that many processes on one database. They begin together once all
have it open; at the end one line of JSON has, for each, the ids it finished, the errors it met and its seconds.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import sys
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from typing import Any

from jobdeck.ids import new_id
from jobdeck.states import AttemptOutcome
from jobdeck.store.claim import Claim, ClaimedRun, claim
from jobdeck.store.database import Database
from jobdeck.store.finish import Finish, finish
from jobdeck.store.open import database_of
from jobdeck.verdict import Ending

_SLOTS = 4
_EMPTY_LOOKS = 3
_COMPLETED = Ending(AttemptOutcome.COMPLETED)


async def work(database: Database, errors: list[str]) -> list[ClaimedRun]:
    """Claim a few, finish each by itself, as a worker with four slots does; stop after looks that found nothing."""
    worker, empty = new_id(), 0
    done: list[ClaimedRun] = []
    while empty < _EMPTY_LOOKS:
        try:
            got = await database.write(claim, Claim(worker, "host:1", _SLOTS, 30_000_000, ("sync",)))
            empty = 0 if got else empty + 1
            await asyncio.gather(
                *(database.write(finish, Finish(run.id, run.fence, _COMPLETED)) for run in got)
            )
            done += got
        except Exception as error:
            errors.append(repr(error))
            empty += 1
    return done


async def _work_alone(url: str, start: Barrier) -> dict[str, Any]:
    errors: list[str] = []
    database = database_of(url, busy_timeout=30.0)
    await database.open()
    await asyncio.to_thread(start.wait)
    begun = time.monotonic()
    done = await work(database, errors)
    seconds = time.monotonic() - begun
    await database.close()
    return {"ids": [str(run.id) for run in done], "errors": errors, "seconds": seconds}


def _process(url: str, start: Barrier, reports: Queue[dict[str, Any]]) -> None:
    reports.put(asyncio.run(_work_alone(url, start)))


def main(url: str, count: int) -> None:
    """See the module."""
    # Forked while this program has one thread and nothing open, so that everything is imported only once.
    context = multiprocessing.get_context("fork")
    start = context.Barrier(count, timeout=60)
    reports: Queue[dict[str, Any]] = context.Queue()
    processes = [
        context.Process(target=_process, args=(url, start, reports), daemon=True) for _ in range(count)
    ]
    for process in processes:
        process.start()
    print(json.dumps([reports.get() for _ in processes]), flush=True)
    for process in processes:
        process.join()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
