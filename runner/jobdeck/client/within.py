"""New runs inside a transaction of the caller's own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import Connection

from jobdeck.client.guard import needs
from jobdeck.client.making import RunMaking
from jobdeck.client.options import RunOptions
from jobdeck.errors import Forbidden
from jobdeck.model import NewRun
from jobdeck.people import Permission
from jobdeck.store.audit.acts import Act
from jobdeck.store.database import Database
from jobdeck.store.transaction import Hint
from jobdeck.store.within import announce, enqueue_within

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection


class RunsWithin(RunMaking):
    """How runs are made that exist if and only if somebody else's transaction commits."""

    @needs(Permission.JOBS_WRITE, denied="run.enqueue", aside=True)
    async def enqueue_in(
        self, conn: AsyncConnection, job_type: str, params: Mapping[str, Any] | None = None, **options: Any
    ) -> UUID:
        """`enqueue` inside the open transaction of a connection to jobdeck's database; its id, or that of the run that
        stands for it.

        Raises what `enqueue` raises, and ConfigError for a connection that cannot be used; the transaction stays as it
        was then.
        """
        new = await self.build(job_type, params, **options)
        loop = asyncio.get_running_loop()
        return await conn.run_sync(lambda sync: self._store_in(sync, new, loop))

    @needs(Permission.JOBS_WRITE, denied="run.enqueue", aside=True)
    async def build(self, job_type: str, params: Mapping[str, Any] | None = None, **options: Any) -> NewRun:
        """A validated run that is not stored yet. Raises UnknownJobType, ValidationError, Forbidden."""
        return await self._built(self._session, job_type, params, RunOptions(**options))

    def _store_in(self, conn: Connection, new: NewRun, loop: asyncio.AbstractEventLoop) -> UUID:
        """Store it in the transaction of a connection, on the thread of whoever owns that; `loop` is the client's.

        For `SyncClient` too, whose program has that thread. Raises Forbidden for a run of another team.
        """
        session = self._session
        if new.team_id != session.scope.team_id:
            raise Forbidden(f"this run was built for another team than {session.scope.slug}")
        database = session.database
        act = Act(session.scope.team_id, session.actor, "run.enqueue", new.job_type, "run")
        return enqueue_within(conn, new, lambda hints: _tell(database, hints, loop), act, database.offset_us)


def _tell(database: Database, hints: Hint, loop: asyncio.AbstractEventLoop) -> None:
    async def write() -> None:
        await database.write(announce, hints)

    writing = write()
    # Where the client is closed by now, polling finds the run; the caller's commit is not to fail for that.
    with suppress(RuntimeError):
        asyncio.run_coroutine_threadsafe(writing, loop)
        return
    writing.close()
