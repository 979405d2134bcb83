"""Runs: make them, list them, look into them, stop them, try them again."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias
from uuid import UUID

from jobdeck import limits
from jobdeck.client import cursors
from jobdeck.client.filters import check_filter
from jobdeck.client.session import Session
from jobdeck.client.storing import store_all
from jobdeck.client.trigger import RunBuilder, RunOptions
from jobdeck.errors import Conflict, NotFound, ValidationError
from jobdeck.ids import parse_part, show_id
from jobdeck.model import CancelReply, LogEntry, Run, RunFilter, RunKey, RunPage, RunStretch
from jobdeck.store import changes, detail, listing
from jobdeck.store.counts import counts
from jobdeck.store.fleet import find_type
from jobdeck.store.id_parts import PARTS_MAX, ids_like
from jobdeck.text import clean

# Inside the class the name `list` is its own method.
Runs: TypeAlias = list[Run]
Entries: TypeAlias = list[LogEntry]
Ids: TypeAlias = list[UUID]


class RunsApi:
    """Everything about runs of the client's team."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def trigger(self, job_type: str, params: Mapping[str, Any] | None = None, **options: Any) -> Run:
        """Validate, store and return one run. Options are the fields of `RunOptions`.

        Raises UnknownJobType, ValidationError, Forbidden, AlreadyActive; nothing is stored then.
        """
        run_id = await self.enqueue(job_type, params, **options)
        return await self.show(run_id)

    async def enqueue(self, job_type: str, params: Mapping[str, Any] | None = None, **options: Any) -> UUID:
        """`trigger` that gives the id alone."""
        builder = await self._builder(job_type, RunOptions(**options))
        (run_id,) = await store_all(self._session.database, [builder.build(params or {})])
        return run_id

    async def trigger_many(self, job_type: str, params: Sequence[Mapping[str, Any]], **options: Any) -> Ids:
        """Many runs of one type, at most 10,000; validated all before the first is stored."""
        if len(params) > limits.ENQUEUE_BATCH:
            raise ValidationError(
                f"at most {limits.ENQUEUE_BATCH:,} runs at a time, not {len(params):,}", field="count"
            )
        builder = await self._builder(job_type, RunOptions(**options))
        runs = [builder.build(item) for item in params]
        flights = [run.flight_key for run in runs if run.flight_key is not None]
        if len(set(flights)) < len(flights):
            raise Conflict(
                f"of {clean(job_type, 128)} only one run at a time may be active here; make them one by one"
            )
        return await store_all(self._session.database, runs)

    async def _builder(self, job_type: str, options: RunOptions) -> RunBuilder:
        registered = None
        # What could not be the name of a type is not looked up: a database may refuse the very text.
        is_name = re.fullmatch(limits.JOB_TYPE_PATTERN, job_type) is not None
        if is_name and self._session.local_spec(job_type) is None:
            registered = await self._session.database.read(find_type, job_type)
        return RunBuilder(self._session, job_type, registered, options)

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

    async def by_ids(self, ids: Sequence[UUID]) -> Runs:
        """These runs as they are now; unknown ones are left out."""
        return await self._session.read(listing.by_ids, ids) if ids else []

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

    async def show(self, run_id: UUID) -> Run:
        """The whole record with params, result and attempts. Raises NotFound."""
        run = await self._session.read(detail.show, run_id)
        if run is None:
            raise NotFound(f"no run {show_id('run', run_id)} in this team")
        return run

    async def logs(self, run_id: UUID, *, after: int = 0, limit: int = 1_000) -> Entries:
        """Log entries after the entry `after`, oldest first."""
        return await self._entries(run_id, after=after, limit=limit)

    async def log_tail(self, run_id: UUID, limit: int = 200) -> Entries:
        """The last entries, oldest first."""
        return await self._entries(run_id, limit=limit, newest=True)

    async def _entries(self, run_id: UUID, **which: Any) -> Entries:
        database = self._session.database
        return await database.read(detail.logs, database.differences, self._session.scope, run_id, **which)

    async def cancel(self, run_id: UUID, *, reason: str | None = None) -> CancelReply:
        """Ask a run to stop; the reply says whether it has. Raises NotFound, NotCancellable."""
        session = self._session
        item = changes.Cancel(session.scope.team_id, run_id, session.actor, _reason(reason))
        return await session.database.write(changes.cancel, item)

    async def retry(self, run_id: UUID, *, reason: str | None = None) -> Run:
        """Put an ended run back to pending; its history stays. Raises NotFound, Conflict."""
        session = self._session
        item = changes.RetryRun(session.scope.team_id, run_id, session.actor, _reason(reason))
        await session.database.write(changes.retry, item)
        return await self.show(run_id)

    async def counts(self) -> dict[str, int]:
        """How many runs of the team have each stored status."""
        scope = self._session.scope
        return await self._session.database.read(counts, scope)


def _reason(reason: str | None) -> str | None:
    if reason is None:
        return None
    if len(reason) > limits.REASON_CHARS:
        raise ValidationError(f"a reason has at most {limits.REASON_CHARS} characters", field="reason")
    return clean(reason)
