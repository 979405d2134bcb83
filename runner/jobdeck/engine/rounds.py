"""What any worker does for all, at intervals: somebody has to, and it does not matter who."""

from __future__ import annotations

import logging

from jobdeck.errors import DatabaseError
from jobdeck.ids import show_id
from jobdeck.store.database import Database
from jobdeck.store.expiry import Expire, expire
from jobdeck.store.finish import Recover, recover

_log = logging.getLogger("jobdeck.engine.rounds")


class Rounds:
    """Each round may be done by several workers at the same time; a database that is away is left for the next one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def recover(self) -> int:
        """Take over runs whose worker has fallen silent; how many."""
        try:
            ended = await self._database.write(recover, Recover(actor="recovery"))
        except DatabaseError:
            return 0
        for item in ended:
            _log.warning(
                "recovered %s from a silent worker: now %s", show_id("run", item.run_id), item.status
            )
        return len(ended)

    async def expire(self) -> int:
        """End runs whose time to live is over; how many."""
        try:
            return await self._database.write(expire, Expire(actor="system"))
        except DatabaseError:
            return 0
