"""Whether saved jobs may run now."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select

from jobdeck.errors import JobDisabled, NotFound
from jobdeck.ids import show_id
from jobdeck.model import JobRef
from jobdeck.store.schema import jobs
from jobdeck.store.transaction import Tx


def held_jobs(tx: Tx, job_ids: Collection[UUID]) -> Sequence[Any]:
    """These jobs, which nobody switches or archives until the transaction has ended; many may hold them."""
    if not job_ids:
        return []
    query = select(jobs.c.id, jobs.c.team_id, jobs.c.slug, jobs.c.enabled, jobs.c.archived_at)
    # SQLite, where one transaction writes at a time, leaves the lock out.
    held = query.where(jobs.c.id.in_(job_ids)).order_by(jobs.c.id).with_for_update(read=True)
    return tx.conn.execute(held).all()


class JobStates:
    """The jobs that some new runs are of, as they are in this transaction."""

    def __init__(self, tx: Tx, refs: Sequence[JobRef]) -> None:
        self._found: dict[tuple[UUID, UUID], tuple[str, bool, bool]] = {}
        for row in held_jobs(tx, {ref.id for ref in refs}):
            self._found[row.team_id, row.id] = (row.slug, bool(row.enabled), row.archived_at is not None)

    def check(self, team_id: UUID, ref: JobRef) -> None:
        """Raises NotFound for a job that is archived or not of the team, and JobDisabled unless it is forced."""
        slug, enabled, archived = self._found.get((team_id, ref.id), ("", False, True))
        if archived:
            why = "; it has been archived" if slug else ""
            raise NotFound(f"no job {slug or show_id('job', ref.id)} in this team{why}")
        if not enabled and not ref.force:
            raise JobDisabled(f"the job {slug} is disabled; enable it with: jobdeck jobs enable {slug}")
