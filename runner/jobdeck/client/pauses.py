"""Pauses of the client's team: nothing of what they name begins until they are over."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeAlias

from jobdeck import limits
from jobdeck.client.guard import acts, needs
from jobdeck.client.jobs import JobsApi
from jobdeck.client.options import checked_queue, checked_reason
from jobdeck.client.session import Session
from jobdeck.errors import ValidationError
from jobdeck.model import Pause
from jobdeck.people import Permission
from jobdeck.states import PauseKind
from jobdeck.store.control import pauses
from jobdeck.text import clean, quoted

# Inside the class the name `list` is its own method.
Pauses: TypeAlias = list[Pause]


class PausesApi:
    """What is paused, and how that begins and ends. Runs that have begun go on."""

    def __init__(self, session: Session, jobs: JobsApi) -> None:
        self._session = session
        self._jobs = jobs

    @needs(Permission.JOBS_READ)
    async def list(self) -> Pauses:
        """What holds runs of the team back, the widest first."""
        scope = self._session.scope
        database = self._session.database
        return await database.read(
            lambda conn: pauses.list_pauses(conn, database.now_of(conn), scope.team_id)
        )

    @acts("pause.start", Permission.JOBS_WRITE)
    async def pause(
        self, kind: str, name: str = "", *, reason: str | None = None, span: timedelta | None = None
    ) -> Pause:
        """Pause a `queue`, `type` or `job` by name, the `team`, or `all` teams; for a while or until resumed.

        An earlier pause of the same is replaced. `all` is for admins of the installation. Raises ValidationError,
        Forbidden, and NotFound for a job.
        """
        if span is not None and not 0 < span.total_seconds() <= limits.DELAY_MAX:
            raise ValidationError("a pause lasts more than 0s and at most 366d", field="for")
        target = await self._target(kind, name)
        item = pauses.MakePause(target, self._session.actor, checked_reason(reason), span)
        return await self._session.database.write(pauses.pause, item)

    @acts("pause.end", Permission.JOBS_WRITE)
    async def resume(self, kind: str, name: str = "") -> Pause:
        """End a pause; it is the answer. Raises as `pause` does, and Conflict for what is not paused."""
        target = await self._target(kind, name)
        return await self._session.database.write(pauses.resume, target)

    async def _target(self, kind: str, name: str) -> pauses.Target:
        if kind not in set(PauseKind):
            known = ", ".join(PauseKind)
            raise ValidationError(
                f"what can be paused is one of {known}, not {quoted(kind, 40)}", field="kind"
            )
        wanted, scope = PauseKind(kind), self._session.scope
        named = wanted in (PauseKind.QUEUE, PauseKind.TYPE, PauseKind.JOB)
        if named is not bool(name):
            raise ValidationError(f"say which {kind}" if named else f"{kind} takes no name", field="name")
        match wanted:
            case PauseKind.ALL:
                return pauses.Target(None, wanted, by=self._session.actor)
            case PauseKind.TEAM:
                return pauses.Target(scope.team_id, wanted, scope.slug)
            case PauseKind.QUEUE:
                return pauses.Target(scope.team_id, wanted, checked_queue(name))
            case PauseKind.TYPE:
                return pauses.Target(scope.team_id, wanted, _checked_type(name))
        job = await self._jobs.show(await self._jobs.resolve(name))
        return pauses.Target(scope.team_id, wanted, job.slug, job.id)


def _checked_type(name: str) -> str:
    if len(name) > limits.JOB_TYPE_CHARS or name != clean(name):
        raise ValidationError(f"{quoted(name, 60)} is no name of a job type", field="name")
    return name
