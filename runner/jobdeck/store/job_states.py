"""Whether saved jobs may run now."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select

from jobdeck.errors import JobDisabled, NotFound
from jobdeck.ids import show_id
from jobdeck.model import JobRef
from jobdeck.store.schema import jobs
from jobdeck.store.transaction import Tx


class JobStates:
    """The jobs that some new runs are of, as they are in this transaction."""

    def __init__(self, tx: Tx, refs: Sequence[JobRef]) -> None:
        self._found: dict[tuple[UUID, UUID], tuple[str, bool, bool]] = {}
        if refs:
            query = select(jobs.c.id, jobs.c.team_id, jobs.c.slug, jobs.c.enabled, jobs.c.archived_at).where(
                jobs.c.id.in_({ref.id for ref in refs})
            )
            for row in tx.conn.execute(query):
                self._found[row.team_id, row.id] = (row.slug, bool(row.enabled), row.archived_at is not None)

    def check(self, team_id: UUID, ref: JobRef) -> None:
        """Raises NotFound for a job that is archived or not of the team, and JobDisabled unless it is forced."""
        slug, enabled, archived = self._found.get((team_id, ref.id), ("", False, True))
        if archived:
            why = "; it has been archived" if slug else ""
            raise NotFound(f"no job {slug or show_id('job', ref.id)} in this team{why}")
        if not enabled and not ref.force:
            raise JobDisabled(f"the job {slug} is disabled; enable it with: jobdeck jobs enable {slug}")
