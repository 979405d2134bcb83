"""Runs as they are: in lists, one by one, with their logs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias
from uuid import UUID

from jobdeck import limits
from jobdeck.client import cursors
from jobdeck.client.filters import check_filter
from jobdeck.client.guard import needs
from jobdeck.client.session import Session
from jobdeck.errors import NotFound, ValidationError
from jobdeck.ids import parse_part, show_id
from jobdeck.model import LogEntry, Reason, Run, RunEvent, RunFilter, RunKey, RunPage, RunStretch
from jobdeck.people import Permission
from jobdeck.store.lists import detail, listing
from jobdeck.store.lists.counts import counts
from jobdeck.store.lists.id_parts import PARTS_MAX, ids_like
from jobdeck.store.why import why as reasons

# Inside the class the name `list` is its own method.
Runs: TypeAlias = list[Run]
Entries: TypeAlias = list[LogEntry]
Events: TypeAlias = list[RunEvent]
Reasons: TypeAlias = list[Reason]


class RunReading:
    """How runs are found and looked at."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @needs(Permission.JOBS_READ)
    async def list(
        self, chosen: RunFilter, *, limit: int = limits.PAGE_DEFAULT, cursor: str | None = None
    ) -> RunPage:
        """One page, newest first. Raises ValidationError for a bad limit, filter or cursor.

        A page looks at a bounded number of runs, so one for what is rare may end before it is full, even empty,
        and then says `searched_to`; `find` goes on until it is full.
        """
        if not 1 <= limit <= limits.PAGE_MAX:
            raise ValidationError(f"a page has 1 to {limits.PAGE_MAX} runs, not {limit}", field="limit")
        scope = self._session.scope
        after = cursors.decode(cursor, scope, chosen) if cursor else None
        found = await self.page(chosen, after=after, limit=limit + 1)
        shown = found.runs[:limit]
        if len(found.runs) > limit:
            return RunPage(shown, cursors.encode(shown[-1].key, scope, chosen), True)
        if found.stopped is not None:
            going_on = cursors.encode(found.stopped, scope, chosen)
            return RunPage(shown, going_on, True, found.stopped.created_at)
        return RunPage(shown, None, False)

    @needs(Permission.JOBS_READ)
    async def find(
        self, chosen: RunFilter, *, limit: int = limits.PAGE_DEFAULT, cursor: str | None = None
    ) -> RunPage:
        """`list` until the page is full or the list ends; for what is rare in a long history that takes many reads."""
        page = await self.list(chosen, limit=limit, cursor=cursor)
        found = page.runs
        while page.has_more and len(found) < limit:
            page = await self.list(chosen, limit=limit - len(found), cursor=page.cursor)
            found += page.runs
        return replace(page, runs=found)

    @needs(Permission.JOBS_READ)
    async def page(
        self,
        chosen: RunFilter,
        *,
        after: RunKey | None = None,
        before: RunKey | None = None,
        last: bool = False,
        limit: int = 200,
    ) -> RunStretch:
        """A window of the list for a scrolling view: older than `after`, newer than `before`, or the oldest.

        Looks at a bounded number of runs, as `list` does. Raises ValidationError for a bad filter.
        """
        check_filter(chosen)
        differences = self._session.database.differences
        return await self._session.read(
            listing.page, chosen, differences=differences, limit=limit, after=after, before=before, last=last
        )

    async def _exists(self, run_id: UUID) -> bool:
        return await self._session.database.read(listing.exists, self._session.scope, run_id)

    @needs(Permission.JOBS_READ)
    async def by_ids(self, ids: Sequence[UUID]) -> Runs:
        """These runs as they are now; unknown ones are left out."""
        return await self._session.read(listing.by_ids, ids) if ids else []

    @needs(Permission.JOBS_READ)
    async def resolve(self, text: str) -> UUID:
        """A run by its id, or by a unique prefix or tail of at least four characters.

        Raises ValidationError for something that is no part of an id or fits several runs, or begins the ids of
        too many runs to look at; NotFound.
        """
        part = parse_part("run", text)
        if isinstance(part, UUID):
            if not await self._exists(part):
                raise NotFound(f"no run {show_id('run', part)} in this team")
            return part
        found = await self._session.database.read(ids_like, self._session.scope, part)
        if not found:
            raise NotFound(f"no run whose id begins or ends with {part!r} in this team")
        if len(found) > 1:
            more = " or more" if len(found) >= PARTS_MAX else ""
            raise ValidationError(
                f"{len(found)}{more} runs have an id with {part!r}; give more of it", field="id"
            )
        return found[0]

    @needs(Permission.JOBS_READ)
    async def show(self, run_id: UUID) -> Run:
        """The whole record with params, result and attempts. Raises NotFound."""
        run = await self._session.read(detail.show, run_id)
        if run is None:
            raise self._unknown(run_id)
        return run

    @needs(Permission.JOBS_READ)
    async def events(self, run_id: UUID) -> Events:
        """What was done to the run, by whom, in order. Raises NotFound."""
        found = await self._session.database.read(detail.events, self._session.scope, run_id)
        if not found:
            raise self._unknown(run_id)
        return found

    @needs(Permission.JOBS_READ)
    async def why(self, run_id: UUID) -> Reasons:
        """What the run waits for, in the order in which it has to give way. Raises NotFound."""
        found = await self._session.read(reasons, run_id)
        if found is None:
            raise self._unknown(run_id)
        return found

    def _unknown(self, run_id: UUID) -> NotFound:
        return NotFound(f"no run {show_id('run', run_id)} in this team")

    @needs(Permission.JOBS_READ)
    async def logs(self, run_id: UUID, *, after: int = 0, limit: int = 1_000) -> Entries:
        """Log entries after the entry `after`, oldest first."""
        return await self._entries(run_id, after=after, limit=limit)

    @needs(Permission.JOBS_READ)
    async def log_tail(self, run_id: UUID, limit: int = 200) -> Entries:
        """The last entries, oldest first."""
        return await self._entries(run_id, limit=limit, newest=True)

    async def _entries(self, run_id: UUID, **which: Any) -> Entries:
        database = self._session.database
        return await database.read(detail.logs, database.differences, self._session.scope, run_id, **which)

    @needs(Permission.JOBS_READ)
    async def counts(self) -> dict[str, int]:
        """How many runs of the team have each stored status."""
        scope = self._session.scope
        return await self._session.database.read(counts, scope)
