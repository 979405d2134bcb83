"""The group-commit prototype: what one writer thread with SQLAlchemy Core can do, durable, with nothing around it.

A claim for the free slots, one task per job, each end handed to the writer; whatever waits there is one transaction.
No typed params, fences, beats, recovery, retries, events or logs: the ceiling of jobdeck's design on SQLite.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, bindparam, create_engine, event, insert, literal_column, select, update

from bench.limits.core_tables import job, ran
from bench.limits.job_table import PRAGMAS, fill

_PER_COMMIT = 2_000

_READY = (
    select(job.c.id)
    .where(job.c.status == literal_column("0"), job.c.due_at <= bindparam("now"))
    .order_by(job.c.priority, job.c.due_at, job.c.id)
    .limit(bindparam("wanted"))
)
_CLAIM = (
    update(job)
    .where(job.c.id.in_(_READY))
    .values(status=1, attempts=job.c.attempts + 1, worker="w", lease_until=bindparam("until"))
    .returning(job.c.id, job.c.payload, job.c.attempts)
)
_START = insert(ran).inline()
_ENDS_JOB = (
    update(job)
    .where(job.c.id == bindparam("ended"), job.c.worker == "w")
    .values(status=2, finished_at=bindparam("at"))
)
_ENDS_RAN = (
    update(ran)
    .where(ran.c.job_id == bindparam("ended"), ran.c.status == 1)
    .values(status=2, finished_at=bindparam("at"), result="null")
)


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """A claim for so many jobs, or the end of one."""

    answer: asyncio.Future[Sequence[Any]]
    wanted: int = 0
    ended: int = 0


class Writer(threading.Thread):
    """The thread with the one connection that writes."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self._loop = asyncio.get_running_loop()
        self._waiting: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._engine = create_engine(f"sqlite:///{path}")
        event.listen(self._engine, "connect", _configure)

    def ask(self, **what: int) -> asyncio.Future[Sequence[Any]]:
        """Hand over a request; its answer comes after the commit."""
        request = Request(self._loop.create_future(), **what)
        self._waiting.put(request)
        return request.answer

    def stop(self) -> None:
        """End the thread."""
        self._waiting.put(None)
        self.join()

    def run(self) -> None:
        """Commit what waits, over and over."""
        with self._engine.connect() as conn:
            while (requests := self._take()) is not None:
                claimed = _commit(conn, requests)
                self._loop.call_soon_threadsafe(_deliver, requests, claimed)
        self._engine.dispose()

    def _take(self) -> list[Request] | None:
        taken = []
        request = self._waiting.get()
        while request is not None:
            taken.append(request)
            if len(taken) == _PER_COMMIT or self._waiting.empty():
                return taken
            request = self._waiting.get()
        return None


def _configure(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _commit(conn: Connection, requests: list[Request]) -> Sequence[Any]:
    now = time.time_ns()
    ends = [{"ended": request.ended, "at": now} for request in requests if request.ended]
    wanted = sum(request.wanted for request in requests)
    claimed: Sequence[Any] = ()
    with conn.begin():
        if ends:
            conn.execute(_ENDS_JOB, ends)
            conn.execute(_ENDS_RAN, ends)
        if wanted:
            claimed = conn.execute(_CLAIM, {"now": now, "wanted": wanted, "until": now}).all()
        if claimed:
            conn.execute(_START, [_started(row, now) for row in claimed])
    return claimed


def _started(row: Any, now: int) -> dict[str, Any]:
    return {"job_id": row.id, "attempt": row.attempts, "status": 1, "worker": "w", "started_at": now}


def _deliver(requests: list[Request], claimed: Sequence[Any]) -> None:
    for request in requests:
        request.answer.set_result(claimed if request.wanted else ())


async def rate(path: Path, in_flight: int, total: int) -> float:
    """Jobs per second, with so many at a time."""
    writer = Writer(path)
    writer.start()
    free, ended, changed = in_flight, 0, asyncio.Event()
    tasks: set[asyncio.Task[None]] = set()

    async def perform(row: Any) -> None:
        nonlocal free, ended
        json.loads(row.payload)
        await writer.ask(ended=row.id)
        free += 1
        ended += 1
        changed.set()

    started = time.perf_counter()
    while ended < total:
        # A claim for each slot that becomes free would be a transaction for each.
        if free >= max(1, in_flight // 4):
            claimed = await writer.ask(wanted=free)
            free -= len(claimed)
            for row in claimed:
                task = asyncio.create_task(perform(row))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            if claimed:
                continue
        changed.clear()
        if ended < total:
            await changed.wait()
    seconds = time.perf_counter() - started
    writer.stop()
    return total / seconds


if __name__ == "__main__":
    file, slots, jobs = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    fill(file, jobs).close()
    print(json.dumps(asyncio.run(rate(file, slots, jobs))))
