"""Workers that join a deck's database, and the job types they bring."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from jobdeck.ids import new_id
from jobdeck.model import JobType
from jobdeck.store.database import Database
from jobdeck.store.fleet import Register, register

SYNC = JobType("sync", "Sync", "sync", "project", {"type": "object"}, {"max_attempts": 3}, "acme-jobs", "1.0")
MAIL = replace(SYNC, name="mail", title="Mail", description="Sends.")


async def join(
    database: Database, *types: JobType, queues: tuple[str, ...] = (), lease: float = 30.0
) -> UUID:
    """A worker that starts; it knows `sync` unless the test says otherwise."""
    item = Register(new_id(), "host", 4711, "0.1.0", queues, 10, int(lease * 1_000_000), types or (SYNC,))
    await database.write(register, item)
    return item.worker_id
