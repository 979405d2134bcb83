"""What every operation of a client is bound to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection

from jobdeck.client.guard import Guard
from jobdeck.limits import TAG_CHARS
from jobdeck.model import Project, TeamScope
from jobdeck.spec import HandlerSpec
from jobdeck.store.database import Database
from jobdeck.text import clean

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Session:
    """A database seen from one team, project and actor."""

    database: Database
    scope: TeamScope
    project: Project | None
    actor: str
    local_spec: Callable[[str], HandlerSpec | None]
    """The handler of a job type where its package is installed beside the client."""
    own_schedules: bool = False
    """Whether runs of system types may be made: by a worker for the schedules of the store's own jobs alone."""
    own_approvals: bool = False
    """Whether the actor may approve what the actor has asked for."""
    http_allow: tuple[str, ...] = ()
    """Private networks that webhooks may lead to."""
    by_worker: bool = False
    """What a worker does for its runs and schedules is nobody's act: neither allowed to somebody nor audited."""
    guard: Guard = field(default_factory=Guard, compare=False)

    def __post_init__(self) -> None:
        # The operating system's name for a user is text of strangers like any other.
        object.__setattr__(self, "actor", clean(self.actor, TAG_CHARS))

    async def read(
        self,
        query: Callable[Concatenate[Connection, int, TeamScope, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a team-scoped read; it is given the database's clock and the team."""
        database, scope = self.database, self.scope

        def run(conn: Connection) -> T:
            return query(conn, database.now_of(conn), scope, *args, **kwargs)

        return await database.read(run)
