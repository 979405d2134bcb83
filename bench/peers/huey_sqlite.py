"""huey on a SQLite file: WAL, synchronous as SQLite has it (FULL), one consumer that polls every 10 ms.

A job's row is deleted when a worker takes it, and no history is kept; the result is, so that the end can be seen.
"""

from __future__ import annotations

from typing import Any

from huey import SqliteHuey

from bench.marks import mark
from bench.payload import payload
from bench.peers.script import Script, run, storage, timed_loop

huey = SqliteHuey("bench", filename=storage(), store_none=True)


@huey.task()
def job(params: dict[str, Any]) -> None:
    """End at once."""
    mark(params["sent_ns"])


def one(count: int) -> float:
    """Seconds for so many jobs, made one by one."""
    return timed_loop(count, lambda: job(payload()))


if __name__ == "__main__":
    # A task is known by the module it stands in, which must be the one the consumer imports.
    from bench.peers import huey_sqlite

    run(Script(set_up=lambda: None, one=huey_sqlite.one))
