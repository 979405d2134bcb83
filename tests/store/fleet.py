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
EMBED = replace(SYNC, name="embed", title="Embed", labels=("gpu", "ssd"))


async def join(
    database: Database,
    *types: JobType,
    queues: tuple[str, ...] = (),
    labels: tuple[str, ...] = (),
    others: tuple[JobType, ...] = (),
    lease: float = 30.0,
) -> UUID:
    """A worker that starts; it takes `sync` unless the test says otherwise, and makes `others` known."""
    types = types or (SYNC,)
    item = Register(
        worker_id=new_id(),
        host="host",
        pid=4711,
        version="0.1.0",
        queues=queues,
        slots=10,
        lease_us=int(lease * 1_000_000),
        types=(*types, *others),
        takes=tuple(kind.name for kind in types),
        labels=labels,
    )
    await database.write(register, item)
    return item.worker_id
