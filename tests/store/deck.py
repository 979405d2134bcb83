"""One team on one database, and the store's verbs in the words of a test."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Insert, Table, Update, select

from jobdeck.errors import JobdeckError
from jobdeck.ids import new_id
from jobdeck.model import (
    CancelReply,
    NewRun,
    Progress,
    Project,
    Run,
    RunExtras,
    RunFilter,
    RunStretch,
    TeamScope,
)
from jobdeck.states import AttemptOutcome, Status
from jobdeck.store import changes
from jobdeck.store.claim import FIRST_TEAM, Claim, ClaimedRun, claim
from jobdeck.store.database import Database
from jobdeck.store.enqueue import enqueue
from jobdeck.store.expiry import Expire, expire
from jobdeck.store.finish import Ended, Finish, Recover, finish, recover
from jobdeck.store.leases import LogLine, Report
from jobdeck.store.lists import detail, listing
from jobdeck.store.lists.id_parts import ids_like
from jobdeck.store.schema import runs
from jobdeck.store.scopes import NewProject, NewTeam, create_project, create_team
from jobdeck.store.transaction import Rank, Tx, verb
from jobdeck.verdict import Ending

LEASE = 30.0
WORKER = new_id()


class Deck:
    """A team with a project; what it enqueues has the job type `sync` unless the test says otherwise."""

    def __init__(self, database: Database, scope: TeamScope, project: Project) -> None:
        self.database = database
        self.scope = scope
        self.project = project

    def forward(self, seconds: float) -> None:
        """Move the database's clock."""
        self.database.offset_us += int(seconds * 1_000_000)

    async def now(self) -> int:
        return await self.database.read(self.database.now_of)

    def new_run(self, **facts: Any) -> NewRun:
        """A run that is due now, in the middle of everything that can be chosen."""
        plain = NewRun(
            id=new_id(),
            team_id=self.scope.team_id,
            project_id=self.project.id,
            job_type="sync",
            params="{}",
            name="Sync",
            category="sync",
        )
        return plain._replace(**facts)

    async def enqueue(self, **facts: Any) -> UUID:
        return await self.database.write(enqueue, self.new_run(**facts))

    async def enqueue_many(self, count: int, **facts: Any) -> list[UUID]:
        """In one batch, with ids that grow."""
        found = await self.database.write_many(enqueue, [self.new_run(**facts) for _ in range(count)])
        return [good(result) for result in found]

    async def claim(
        self,
        limit: int = 1,
        *,
        worker: UUID = WORKER,
        types: tuple[str, ...] = ("sync",),
        queues: tuple[str, ...] = (),
        lease: float = LEASE,
        last_team: UUID | None = None,
    ) -> list[ClaimedRun]:
        turn = FIRST_TEAM if last_team is None else last_team
        item = Claim(worker, "host:1", limit, int(lease * 1_000_000), types, queues, turn)
        return await self.database.write(claim, item)

    async def started(self, **facts: Any) -> ClaimedRun:
        """A run that was enqueued and claimed."""
        run_id = await self.enqueue(**facts)
        (claimed,) = await self.claim(types=(facts.get("job_type", "sync"),))
        assert claimed.id == run_id
        return claimed

    async def finish(
        self,
        run: ClaimedRun,
        outcome: AttemptOutcome = AttemptOutcome.COMPLETED,
        *,
        last_report: Report | None = None,
        **ending: Any,
    ) -> Ended:
        item = Finish(run.id, run.fence, Ending(outcome, **ending), last_report)
        return await self.database.write(finish, item)

    async def recover(self, actor: str = "reaper") -> list[Ended]:
        return await self.database.write(recover, Recover(actor))

    async def cancel(self, run_id: UUID, reason: str | None = None, actor: str = "ada") -> CancelReply:
        return await self.database.write(
            changes.cancel, changes.Cancel(self.scope.team_id, run_id, actor, reason)
        )

    async def retry(self, run_id: UUID, reason: str | None = None, actor: str = "ada") -> UUID:
        item = changes.RetryRun(self.scope.team_id, run_id, actor, reason)
        return await self.database.write(changes.retry, item)

    async def show(self, run_id: UUID) -> Run:
        database, scope = self.database, self.scope
        run = await database.read(lambda conn: detail.show(conn, database.now_of(conn), scope, run_id))
        assert run is not None
        return run

    async def stretch(self, chosen: RunFilter | None = None, **place: Any) -> RunStretch:
        database, scope, limit = self.database, self.scope, place.pop("limit", 500)

        def look(conn: Connection) -> RunStretch:
            now, wanted = database.now_of(conn), chosen or RunFilter()
            return listing.page(
                conn, now, scope, wanted, differences=database.differences, limit=limit, **place
            )

        return await database.read(look)

    async def page(self, chosen: RunFilter | None = None, **place: Any) -> list[Run]:
        """The runs of a stretch that must not have been broken off."""
        found = await self.stretch(chosen, **place)
        assert found.stopped is None
        return list(found.runs)

    async def ids_like(self, part: str) -> list[UUID]:
        """Ids of the team that begin or end with `part`."""
        return await self.database.read(ids_like, self.scope, part)

    async def rows(self, table: Table, **where: Any) -> list[dict[str, Any]]:
        """Stored rows as they are, in the order of their keys."""
        query = select(table).filter_by(**where).order_by(*table.primary_key.columns)
        return await self.database.read(lambda conn: [dict(row) for row in conn.execute(query).mappings()])

    async def set_run(self, run_id: UUID, **values: Any) -> None:
        """Store values that no verb of today can bring about."""
        await self.database.write(execute_statement, runs.update().where(runs.c.id == run_id).values(values))

    async def with_status(self, status: Status) -> UUID:
        """A run brought to this status the way runs get there."""
        if status is Status.AWAITING_APPROVAL:
            return await self.enqueue(extras=RunExtras(requires_approval=True))
        if status is Status.EXPIRED:
            run_id = await self.enqueue(extras=RunExtras(ttl=timedelta(microseconds=1)))
            await self.database.write(expire, Expire("test"))
            return run_id
        if status in (Status.PENDING, Status.CANCELLED):
            run_id = await self.enqueue()
            if status is Status.CANCELLED:
                await self.cancel(run_id)
            return run_id
        claimed = await self.started(max_attempts=2 if status is Status.DEAD else 1, priority=1)
        if status is Status.COMPLETED:
            await self.finish(claimed)
        if status in (Status.FAILED, Status.DEAD):
            await self.finish(claimed, AttemptOutcome.ERROR)
        if status is Status.DEAD:
            (claimed,) = await self.claim()
            await self.finish(claimed, AttemptOutcome.ERROR)
        return claimed.id


@verb(Rank.CHANGE)
def execute_statement(tx: Tx, items: Sequence[Insert | Update]) -> Sequence[None]:
    for item in items:
        tx.conn.execute(item)
    return [None] * len(items)


async def team_of(database: Database, slug: str) -> Deck:
    """A new team with one project, and its deck."""
    team = await database.write(create_team, NewTeam(new_id(), slug, slug.capitalize()))
    project = await database.write(create_project, NewProject(new_id(), team.id, "main", "Main"))
    return Deck(database, TeamScope(team.id, team.slug), project)


def good(result: Any) -> Any:
    """A result of `write_many` that must not be an error."""
    assert not isinstance(result, JobdeckError), result
    return result


def report(
    run: ClaimedRun, *messages: str, progress: Progress | None = None, gap: timedelta | None = None
) -> Report:
    """What an attempt has to say: one line of log for each message."""
    lines = tuple(LogLine(1_700_000_000_000_000, "info", message, None) for message in messages)
    gap_us = None if gap is None else int(gap.total_seconds() * 1_000_000)
    return Report(run.id, run.fence, run.attempt, progress, gap_us, lines, run.log_bytes + 100 * len(lines))
