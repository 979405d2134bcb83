"""Acts on all runs that match a filter: counted first, then done by the workers in the background."""

from __future__ import annotations

from typing import TypeAlias
from uuid import UUID

from jobdeck import limits
from jobdeck.bulk import Bulk, BulkKind, BulkPlan, narrowed
from jobdeck.client.filters import check_filter
from jobdeck.client.guard import acts, needs
from jobdeck.client.options import checked_reason
from jobdeck.client.session import Session
from jobdeck.errors import NotFound, ValidationError
from jobdeck.ids import new_id, parse_part, show_id
from jobdeck.model import RunFilter
from jobdeck.people import Permission
from jobdeck.store.bulk import steps as store
from jobdeck.store.bulk.rows import list_bulk, show_bulk

# Inside the class the name `list` is its own method.
Bulks: TypeAlias = list[Bulk]


class BulkApi:
    """Bulk operations of the client's team."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @needs(Permission.JOBS_READ)
    async def plan(self, kind: BulkKind, chosen: RunFilter) -> BulkPlan:
        """The runs that match and that the kind can act on, as they are now; nothing is changed.

        Raises ValidationError for a bad filter, and for more runs than one operation takes.
        """
        check_filter(chosen)
        wanted = narrowed(kind, chosen)
        if wanted is None:
            return BulkPlan(kind, chosen, ())
        found = await self._session.read(
            store.targets,
            wanted,
            differences=self._session.database.differences,
            limit=limits.BULK_RUNS + 1,
        )
        if len(found) > limits.BULK_RUNS:
            raise ValidationError(
                f"more than {limits.BULK_RUNS:,} runs match; narrow the filter, for example by --until",
                field="filter",
            )
        return BulkPlan(kind, wanted, found)

    @acts("bulk.start", Permission.JOBS_WRITE)
    async def start(self, plan: BulkPlan, *, reason: str | None = None) -> Bulk:
        """Have the runs of a plan visited, those and no others, each under the rules of the single act.

        Raises ValidationError for a rejection without a reason.
        """
        if plan.kind is BulkKind.REJECT and not (reason or "").strip():
            raise ValidationError("a rejection needs a reason (--reason)", field="reason")
        session = self._session
        if plan.kind in (BulkKind.APPROVE, BulkKind.REJECT):
            await session.guard.check(session, Permission.JOBS_APPROVE)
        new = store.NewBulk(
            new_id(),
            session.scope.team_id,
            plan.kind,
            plan.chosen,
            session.actor,
            checked_reason(reason),
            plan.targets,
            own=session.own_approvals,
        )
        return await self.show(await session.database.write(store.create_bulk, new))

    @needs(Permission.JOBS_READ)
    async def list(self, *, limit: int = limits.PAGE_DEFAULT) -> Bulks:
        """Operations of the team, newest first. Raises ValidationError for a bad limit."""
        if not 1 <= limit <= limits.PAGE_MAX:
            raise ValidationError(f"a list has 1 to {limits.PAGE_MAX} entries, not {limit}", field="limit")
        return await self._session.database.read(list_bulk, self._session.scope, limit)

    @needs(Permission.JOBS_READ)
    async def show(self, bulk_id: UUID) -> Bulk:
        """One operation and how far it is. Raises NotFound."""
        found = await self._session.database.read(show_bulk, self._session.scope, bulk_id)
        if found is None:
            raise NotFound(f"no bulk operation {show_id('bulk', bulk_id)} in this team")
        return found

    @acts("bulk.stop", Permission.JOBS_WRITE)
    async def stop(self, bulk_id: UUID) -> Bulk:
        """Leave the runs alone that were not visited yet. Raises NotFound, Conflict where it has ended."""
        session = self._session
        await session.database.write(store.stop_bulk, store.StopBulk(session.scope.team_id, bulk_id))
        return await self.show(bulk_id)

    @needs(Permission.JOBS_READ)
    async def resolve(self, text: str) -> UUID:
        """An operation by its id, or by a unique prefix or tail of it. Raises ValidationError, NotFound."""
        part = parse_part("bulk", text)
        if isinstance(part, UUID):
            return part
        shown = {
            bulk.id: bulk.shown_id.removeprefix("bulk_") for bulk in await self.list(limit=limits.PAGE_MAX)
        }
        found = [key for key, body in shown.items() if body.startswith(part) or body.endswith(part)]
        if not found:
            raise NotFound(f"no bulk operation whose id begins or ends with {part!r} in this team")
        if len(found) > 1:
            raise ValidationError(
                f"{len(found)} bulk operations have an id with {part!r}; give more of it", field="id"
            )
        return found[0]
