"""What any worker does for all, at intervals: somebody has to, and it does not matter who."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from jobdeck.clock import Clock, SystemClock, from_us
from jobdeck.engine.clock_watch import ClockWatch
from jobdeck.engine.options import PlanFire
from jobdeck.errors import DatabaseError, JobdeckError
from jobdeck.ids import show_id
from jobdeck.limits import LEASE
from jobdeck.store.audit.seals import any_unsealed, seal
from jobdeck.store.bulk.steps import next_step, work_step
from jobdeck.store.control.known import needs_upkeep
from jobdeck.store.control.turns import CallWaiting, Key, call_waiting
from jobdeck.store.database import Database
from jobdeck.store.expiry import Expire, expire
from jobdeck.store.finish import Recover, recover
from jobdeck.store.jobs.schedules import (
    DueFire,
    DueSchedule,
    Fire,
    NotFired,
    due_fires,
    due_schedules,
    fire,
    note_not_fired,
)

_log = logging.getLogger("jobdeck.engine.rounds")
_FIRED_AT_ONCE: Final = 20
"""Schedules. To plan and to fire so many takes some 50 ms."""
_RUNS_AT_ONCE: Final = 250
"""Of all fires of a transaction, but that one schedule alone may catch up with more."""


class Rounds:
    """Each round may be done by several workers at the same time. None of them raises: what fails is left for the next
    round, for the runs of this worker do not depend on it."""

    def __init__(
        self,
        database: Database,
        plan_fire: PlanFire | None,
        clock: Clock | None = None,
        *,
        worker_id: UUID | None = None,
        lease: float = LEASE,
    ) -> None:
        self._database = database
        self._plan_fire = plan_fire
        self._called_up_to: Key | None = None
        self._clock_watch = ClockWatch(database, clock or SystemClock(), worker_id, lease)
        self._drawn = random.Random()
        self._told: set[tuple[object, object]] = set()
        """Fires of schedules that are not for this worker, as far as it was said."""

    async def recover(self) -> int:
        """Take over runs whose worker has fallen silent; how many. A clock that was set is told of in the log."""
        return await self._survived("recovery", self._recover)

    async def expire(self) -> int:
        """End runs whose time to live is over; how many."""
        return await self._survived("expiry", lambda: self._database.write(expire, Expire(actor="system")))

    async def call_waiting(self) -> int:
        """Let runs come for which a place under their key is free; how many. Pauses that are over are forgotten."""
        return await self._survived("turns under keys", self._call_waiting)

    async def _call_waiting(self) -> int:
        database = self._database
        if not await database.read(lambda conn: needs_upkeep(conn, database.now_of(conn))):
            return 0
        called = await database.write(call_waiting, CallWaiting(self._called_up_to))
        self._called_up_to = called.last
        return called.runs

    async def fire(self) -> int:
        """Make the runs of schedules whose time has come; how many."""
        return 0 if self._plan_fire is None else await self._survived("firing schedules", self._fire)

    async def bulk(self) -> int:
        """Do what is left of bulk operations, step by step; how many steps."""
        return await self._survived("a bulk operation", self._bulk)

    async def seal(self) -> int:
        """Seal what has come to the audit; how many rows."""
        return await self._survived("sealing the audit", self._seal)

    async def _survived(self, what: str, act: Callable[[], Awaitable[int]]) -> int:
        try:
            return await act()
        except DatabaseError as error:
            _log.debug("%s waits for the database: %s", what, error)
        except Exception:
            _log.exception("%s has failed; it is tried again", what)
        return 0

    async def _recover(self) -> int:
        look = await self._clock_watch.look()
        ended = await self._database.write(recover, Recover("recovery", look.now, look.steady_us))
        for item in ended:
            _log.warning(
                "recovered %s from a silent worker: now %s", show_id("run", item.run_id), item.status
            )
        return len(ended)

    async def _bulk(self) -> int:
        done = 0
        while (step := await self._database.read(next_step)) is not None:
            began = time.monotonic()
            done += await self._database.write(work_step, step)
            # As long again for everybody else: a step keeps the database busier than the runs of a worker do.
            await asyncio.sleep(time.monotonic() - began)
        return done

    async def _seal(self) -> int:
        rows = 0
        while await self._database.read(any_unsealed) and (sealed := await self._database.write(seal, None)):
            rows += sealed
        return rows

    async def _fire(self) -> int:
        made, last = 0, None
        # Each is looked at once: those that cannot be fired do not stand in the way of the others.
        while (fires := await self._due(last)) and fires[-1] != last:
            last = fires[-1]
            handfuls = [
                fires[start : start + _FIRED_AT_ONCE] for start in range(0, len(fires), _FIRED_AT_ONCE)
            ]
            # All workers see the same handfuls. Each begins elsewhere, so that few are planned in vain.
            self._drawn.shuffle(handfuls)
            for some in handfuls:
                due = await self._database.read(due_schedules, some)
                made += await self._fire_some(due) if due else 0
        return made

    async def _fire_some(self, due: list[DueSchedule]) -> int:
        now = from_us(await self._database.read(self._database.now_of))
        plans = [plan for each in due if (plan := await self._plan(each, now)) is not None]
        made = 0
        for some in _pieces(plans):
            for result in await self._database.write_many(fire, some):
                if isinstance(result, JobdeckError):
                    _log.error("a schedule cannot fire: %s", result)
                else:
                    made += result
        return made

    async def _plan(self, due: DueSchedule, now: datetime) -> Fire | None:
        """What a due schedule comes to; None where this worker cannot tell, and leaves it to others."""
        assert self._plan_fire is not None  # noqa: S101  nothing is due without it
        try:
            return await self._plan_fire(due, now)
        except DatabaseError:
            raise
        except Exception as error:
            # One that is spoilt, or of a jobdeck or a package that is newer than this one's.
            if (due.id, due.due_us) not in self._told:
                self._told.add((due.id, due.due_us))
                _log.warning("the schedule of the job %s is not for this worker: %s", due.slug, error)
                note = f"a worker cannot fire it: {error}"
                await self._database.write(note_not_fired, NotFired(due.id, due.due_us, note))
            return None

    async def _due(self, last: DueFire | None) -> list[DueFire]:
        database = self._database
        return await database.read(lambda conn: due_fires(conn, database.now_of(conn), last))


def _pieces(plans: Sequence[Fire]) -> Iterator[list[Fire]]:
    """The plans in transactions that are over soon, however many fires were missed."""
    some: list[Fire] = []
    runs = 0
    for plan in plans:
        if some and runs + len(plan.runs) > _RUNS_AT_ONCE:
            yield some
            some, runs = [], 0
        some.append(plan)
        runs += len(plan.runs)
    if some:
        yield some
