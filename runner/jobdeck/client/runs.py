"""Runs of the client's team: how they are found and made is in the bases; here is how people steer them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from jobdeck.client.guard import acts
from jobdeck.client.options import RunOptions, checked_reason
from jobdeck.client.within import RunsWithin
from jobdeck.errors import ValidationError
from jobdeck.model import CancelReply, Run
from jobdeck.people import Permission
from jobdeck.store import changes
from jobdeck.store.amend import Amend, amend
from jobdeck.store.approvals import Decide, approve, reject
from jobdeck.store.house.pins import Pin, pin


class RunsApi(RunsWithin):
    """Everything about runs of the client's team."""

    @acts("run.cancel", Permission.JOBS_WRITE)
    async def cancel(self, run_id: UUID, *, reason: str | None = None) -> CancelReply:
        """Ask a run to stop; the reply says whether it has. Raises NotFound, NotCancellable."""
        session = self._session
        item = changes.Cancel(session.scope.team_id, run_id, session.actor, checked_reason(reason))
        return await session.database.write(changes.cancel, item)

    @acts("run.retry", Permission.JOBS_WRITE)
    async def retry(self, run_id: UUID, *, reason: str | None = None) -> Run:
        """Put an ended run back to pending; its history stays. Raises NotFound, Conflict."""
        session = self._session
        item = changes.RetryRun(session.scope.team_id, run_id, session.actor, checked_reason(reason))
        await session.database.write(changes.retry, item)
        return await self.show(run_id)

    @acts("run.approve", Permission.JOBS_APPROVE)
    async def approve(self, run_id: UUID, *, reason: str | None = None, seen: str | None = None) -> Run:
        """Let a run go on that awaits approval. `seen` is the `request_hash` of what was looked at.

        Raises NotFound, Forbidden for one's own run, Conflict where it does not wait any more or has been changed.
        """
        item = self._decision(run_id, checked_reason(reason), seen)
        await self._session.database.write(approve, item)
        return await self.show(run_id)

    @acts("run.reject", Permission.JOBS_APPROVE)
    async def reject(self, run_id: UUID, *, reason: str, seen: str | None = None) -> Run:
        """End a run that awaits approval, and say why. Raises as `approve` does; ValidationError without a reason."""
        if not reason.strip():
            raise ValidationError("a rejection needs a reason (--reason)", field="reason")
        item = self._decision(run_id, checked_reason(reason), seen)
        await self._session.database.write(reject, item)
        return await self.show(run_id)

    def _decision(self, run_id: UUID, reason: str | None, seen: str | None) -> Decide:
        session = self._session
        return Decide(session.scope.team_id, run_id, session.actor, reason, seen, own=session.own_approvals)

    @acts("run.pin", Permission.JOBS_WRITE)
    async def pin(self, run_id: UUID, *, reason: str | None = None) -> Run:
        """Keep a run for good, whatever is pruned. Raises NotFound."""
        return await self._pin(run_id, pinned=True, reason=reason)

    @acts("run.unpin", Permission.JOBS_WRITE)
    async def unpin(self, run_id: UUID, *, reason: str | None = None) -> Run:
        """Let a run go when its time has come. Raises NotFound."""
        return await self._pin(run_id, pinned=False, reason=reason)

    async def _pin(self, run_id: UUID, *, pinned: bool, reason: str | None) -> Run:
        session = self._session
        item = Pin(session.scope.team_id, run_id, session.actor, pinned, checked_reason(reason))
        await session.database.write(pin, item)
        return await self.show(run_id)

    @acts("run.update", Permission.JOBS_WRITE)
    async def update(
        self,
        run_id: UUID,
        *,
        params: Mapping[str, Any] | None = None,
        queue: str | None = None,
        priority: int | None = None,
        delay: timedelta | None = None,
        at: datetime | None = None,
        reason: str | None = None,
    ) -> Run:
        """Change a run that has not begun; None leaves what is there. An approval of it is void then.

        Raises NotFound, ValidationError, Conflict where it has begun, AlreadyActive under its new params.
        """
        old = await self.show(run_id)
        options = RunOptions(queue=queue, priority=priority, delay=delay, at=at)
        if params is None and options == RunOptions():
            raise ValidationError("say what to change: params, queue, priority, delay or time")
        if params is not None:
            await self._check_by_job(old, params)
        # Whatever is to stay has been checked; new params are checked as those of a new run.
        wanted = await self._built(
            await self.session_of(old), old.job_type, old.params if params is None else params, options
        )
        item = Amend(
            self._session.scope.team_id,
            run_id,
            self._session.actor,
            checked_reason(reason),
            params=None if params is None else wanted.params,
            flight_key=wanted.flight_key,
            queue=queue,
            priority=priority,
            due_at=wanted.due_at,
            delay=wanted.delay,
        )
        await self._session.database.write(amend, item)
        return await self.show(run_id)
