"""Runs that a worker makes for others: children of its runs, and fires of schedules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from jobdeck.client.firing import plan_fire
from jobdeck.client.runs import RunsApi
from jobdeck.client.session import Session
from jobdeck.ids import show_id
from jobdeck.model import Project, TeamScope
from jobdeck.spec import HandlerSpec
from jobdeck.store.claim import ClaimedRun
from jobdeck.store.database import Database
from jobdeck.store.jobs.schedules import DueSchedule, Fire
from jobdeck.store.scopes import find_project


class Errands:
    """Works in the team and project of whatever it makes a run for."""

    def __init__(
        self,
        database: Database,
        actor: str,
        spec_of: Callable[[str], HandlerSpec | None],
        *,
        http_allow: tuple[str, ...] = (),
    ) -> None:
        self._database = database
        self._actor = actor
        self._spec_of = spec_of
        self._http_allow = http_allow
        # What a slug names in a team stays what it is; to read it for every child would cost more than to store it.
        self._projects: dict[tuple[UUID, str], Project | None] = {}

    async def enqueue_child(
        self, run: ClaimedRun, job_type: str, params: Mapping[str, Any], options: Mapping[str, Any]
    ) -> UUID:
        """A child of a run. Raises what `RunsApi.enqueue` raises."""
        session = await self._session(run.team_id, run.team, run.project)
        return await RunsApi(session).enqueue(
            job_type,
            params,
            **options,
            parent_run_id=run.id,
            lineage_depth=run.rare.lineage_depth + 1,
            triggered_by=f"parent:{show_id('run', run.id)}",
        )

    async def plan_fire(self, due: DueSchedule, now: datetime) -> Fire:
        """What a due schedule comes to."""
        session = await self._session(due.team_id, due.team, due.project)
        session = replace(session, own_schedules=True)
        registered = await RunsApi(session).registered(str(due.facts.get("type", "")))
        return plan_fire(session, due, registered, now)

    async def _session(self, team_id: UUID, team: str, slug: str | None) -> Session:
        project = None
        if slug is not None:
            project = self._projects.get((team_id, slug))
            if project is None:
                project = await self._database.read(find_project, team_id, slug)
                self._projects[team_id, slug] = project
        scope = TeamScope(team_id, team)
        return Session(
            self._database,
            scope,
            project,
            self._actor,
            self._spec_of,
            http_allow=self._http_allow,
            by_worker=True,
        )
