"""The client: a database, a team, a project and an actor, and what can be done with them."""

from __future__ import annotations

import asyncio

from jobdeck.client.audit import AuditApi
from jobdeck.client.bulk import BulkApi
from jobdeck.client.deliveries import DeliveriesApi, WebhooksApi
from jobdeck.client.fleet import FleetApi, TypesApi
from jobdeck.client.jobs import JobsApi
from jobdeck.client.members import MembersApi
from jobdeck.client.pauses import PausesApi
from jobdeck.client.queues import QueuesApi
from jobdeck.client.runs import RunsApi
from jobdeck.client.scopes import ProjectsApi, TeamsApi
from jobdeck.client.session import Session
from jobdeck.client.statistics import StatisticsApi
from jobdeck.model import Project, TeamScope
from jobdeck.store.transaction import Hint


class Client:
    """Made by `jobdeck.bootstrap.open_client`; usable on the event loop it was opened on.

    `runs`, `bulk`, `jobs`, `queues`, `pauses`, `statistics`, `deliveries`, `webhooks`, `workers`, `types`, `teams`
    `projects`, `members` and `audit` hold the operations.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.runs = RunsApi(session)
        self.jobs = JobsApi(session, self.runs)
        self.bulk = BulkApi(session)
        self.pauses = PausesApi(session, self.jobs)
        self.queues = QueuesApi(session)
        self.statistics = StatisticsApi(session)
        self.workers = FleetApi(session)
        self.types = TypesApi(session)
        self.teams = TeamsApi(session)
        self.projects = ProjectsApi(session)
        self.deliveries = DeliveriesApi(session)
        self.webhooks = WebhooksApi(session)
        self.members = MembersApi(session)
        self.audit = AuditApi(session)
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._stop = session.database.signals.listen(self._hear)

    def _hear(self, _hint: Hint) -> None:
        self._loop.call_soon_threadsafe(self._changed.set)

    @property
    def scope(self) -> TeamScope:
        """The team everything is bound to."""
        return self._session.scope

    @property
    def project(self) -> Project | None:
        """The project new runs belong to; None outside projects."""
        return self._session.project

    @property
    def actor(self) -> str:
        """Who acts."""
        return self._session.actor

    async def changed(self, timeout: float) -> bool:
        """Wait until something may have changed, at most `timeout` seconds. A hint: the truth is to be re-read."""
        try:
            await asyncio.wait_for(self._changed.wait(), timeout)
        except TimeoutError:
            return False
        self._changed.clear()
        return True

    async def server_time_us(self) -> int:
        """The database's clock, microseconds UTC."""
        database = self._session.database
        return await database.read(database.now_of)

    def close(self) -> None:
        """Stop listening; the database stays open for whoever opened it."""
        self._stop()
