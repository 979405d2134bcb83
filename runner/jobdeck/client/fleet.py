"""Workers and job types."""

from __future__ import annotations

import difflib

from jobdeck.client.guard import needs
from jobdeck.client.session import Session
from jobdeck.errors import UnknownJobType
from jobdeck.model import JobType, Worker
from jobdeck.people import Permission
from jobdeck.plugins import Plugin, load_one
from jobdeck.store import fleet


class FleetApi:
    """The workers of this installation."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @needs(Permission.JOBS_READ)
    async def list(self) -> list[Worker]:
        """Live workers first, then those that stopped or were lost in the last day."""
        database = self._session.database
        return await database.read(lambda conn: fleet.list_workers(conn, database.now_of(conn)))


class TypesApi:
    """The job types that workers have registered."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @needs(Permission.JOBS_READ)
    async def list(self) -> list[JobType]:
        """All of them, by name."""
        database = self._session.database
        return await database.read(lambda conn: fleet.list_types(conn, database.now_of(conn)))

    @needs(Permission.JOBS_READ)
    async def show(self, name: str) -> JobType:
        """One of them, as its workers registered it, else as it is installed here. Raises UnknownJobType."""
        kinds = {kind.name: kind for kind in await self.list()}
        if name in kinds:
            return kinds[name]
        plugin = load_one(name)
        if plugin is not None:
            return plugin.job_type()
        spec = self._session.local_spec(name)
        if spec is not None:
            # Of a module that the configuration names.
            package = spec.function.__module__.partition(".")[0]
            return Plugin(spec, package, "local", spec.reference).job_type()
        near = difflib.get_close_matches(name, kinds, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UnknownJobType(
            f"no worker or installed package knows the job type {name[:128]!r}{hint}", field="job_type"
        )
