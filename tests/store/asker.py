"""Processes that ask for the same run; run by the tests as a program of its own.

`python -m tests.store.asker URL TEAM WHAT`: four processes ask 50 times each, all at the same time. At the end one line
of JSON has the 200 answers: the id of the run each was given, or that of the one that was in its way.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import sys
from datetime import timedelta
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from typing import Any, Final
from uuid import UUID

from jobdeck.errors import AlreadyActive
from jobdeck.ids import new_id, show_id
from jobdeck.model import NewRun, RunExtras
from jobdeck.states import OnConflict
from jobdeck.store.database import Database
from jobdeck.store.enqueue import enqueue
from jobdeck.store.open import database_of

_PROCESSES: Final = 4
_EACH: Final = 50
_ASKED: Final[dict[str, dict[str, Any]]] = {
    "idempotency": {"extras": RunExtras(idempotency_key="order-1", request="a")},
    "dedupe": {"extras": RunExtras(dedupe_key="user-7")},
    "window": {"extras": RunExtras(dedupe_key="user-7", dedupe_window=timedelta(minutes=5))},
    "flight": {"flight_key": "p:sync:"},
    "latest": {"flight_key": "p:sync:", "extras": RunExtras(on_conflict=OnConflict.QUEUE_LATEST)},
}


async def _ask(database: Database, team_id: UUID, what: str) -> str:
    run = NewRun(new_id(), team_id, None, "sync", "{}", "Sync", "sync")._replace(**_ASKED[what])
    try:
        return show_id("run", await database.write(enqueue, run))
    except AlreadyActive as error:
        return error.existing_run_id


async def _ask_all(url: str, team_id: UUID, what: str, start: Barrier) -> list[str]:
    database = database_of(url, busy_timeout=30.0)
    await database.open()
    await asyncio.to_thread(start.wait)
    found = await asyncio.gather(*(_ask(database, team_id, what) for _ in range(_EACH)))
    await database.close()
    return found


def _process(url: str, team_id: UUID, what: str, start: Barrier, answers: Queue[list[str]]) -> None:
    answers.put(asyncio.run(_ask_all(url, team_id, what, start)))


def main(url: str, team_id: UUID, what: str) -> None:
    """See the module."""
    context = multiprocessing.get_context("fork")
    start = context.Barrier(_PROCESSES, timeout=60)
    answers: Queue[list[str]] = context.Queue()
    processes = [
        context.Process(target=_process, args=(url, team_id, what, start, answers), daemon=True)
        for _ in range(_PROCESSES)
    ]
    for process in processes:
        process.start()
    print(json.dumps([answer for _ in processes for answer in answers.get()]), flush=True)
    for process in processes:
        process.join()


if __name__ == "__main__":
    main(sys.argv[1], UUID(sys.argv[2]), sys.argv[3])
