"""What any worker does for all, at intervals: somebody has to, and it does not matter who."""

from __future__ import annotations

import logging

from jobdeck.clock import from_us
from jobdeck.engine.options import PlanFire
from jobdeck.errors import DatabaseError, JobdeckError
from jobdeck.ids import show_id
from jobdeck.store.database import Database
from jobdeck.store.expiry import Expire, expire
from jobdeck.store.finish import Recover, recover
from jobdeck.store.schedules import DueSchedule, due_schedules, fire

_log = logging.getLogger("jobdeck.engine.rounds")


class Rounds:
    """Each round may be done by several workers at the same time; a database that is away is left for the next one."""

    def __init__(self, database: Database, plan_fire: PlanFire | None) -> None:
        self._database = database
        self._plan_fire = plan_fire

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

    async def fire(self) -> int:
        """Make the runs of schedules whose time has come; how many."""
        if self._plan_fire is None:
            return 0
        made = 0
        try:
            while due := await self._due():
                now = from_us(await self._database.read(self._database.now_of))
                plans = [await self._plan_fire(each, now) for each in due]
                results = await self._database.write_many(fire, plans)
                made += sum(result for result in results if isinstance(result, int))
                for each, result in zip(due, results, strict=True):
                    if isinstance(result, JobdeckError):
                        _log.error("the schedule of the job %s cannot fire: %s", each.slug, result)
                if any(isinstance(result, JobdeckError) for result in results):
                    # What fails stays due: it is tried again with the next round, not at once.
                    break
        except DatabaseError as error:
            _log.warning("schedules wait for the database: %s", error)
        return made

    async def _due(self) -> list[DueSchedule]:
        database = self._database
        return await database.read(lambda conn: due_schedules(conn, database.now_of(conn)))
