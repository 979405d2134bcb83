"""Teams and projects: the scopes everything else lives in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, insert, select

from jobdeck.clock import from_us
from jobdeck.errors import Conflict, JobdeckError
from jobdeck.limits import SYSTEM_TEAM
from jobdeck.model import Project, Team
from jobdeck.people import Permission
from jobdeck.store.members import lacks
from jobdeck.store.schema import projects, teams
from jobdeck.store.transaction import Rank, Tx, verb


class Asker(NamedTuple):
    """Somebody, in the team whose admin they say they are."""

    team_id: UUID
    actor: str


@dataclass(frozen=True, slots=True)
class NewTeam:
    id: UUID
    slug: str
    name: str
    existing_ok: bool = False
    asker: Asker | None = None
    """Who has to be admin; None: made by jobdeck itself."""


@dataclass(frozen=True, slots=True)
class NewProject:
    id: UUID
    team_id: UUID
    slug: str
    name: str
    existing_ok: bool = False
    asker: Asker | None = None
    """Who has to be admin; None: made by jobdeck itself."""


@verb(Rank.CHANGE)
def create_team(tx: Tx, items: Sequence[NewTeam]) -> Sequence[Team | JobdeckError]:
    """The new team; the existing one where that is fine, else Conflict."""
    return [_create_team(tx, item) for item in items]


def _create_team(tx: Tx, item: NewTeam) -> Team | JobdeckError:
    refused = item.asker and lacks(tx, *item.asker, Permission.ADMIN)
    if refused:
        return refused
    existing = find_team(tx.conn, item.slug)
    if existing is not None:
        return existing if item.existing_ok else Conflict(f"there is already a team {item.slug!r}")
    row = {"id": item.id, "slug": item.slug, "name": item.name, "created_at": tx.now}
    tx.conn.execute(insert(teams), row)
    tx.tell(item, item.slug, None, {"name": item.name})
    return _team(row)


@verb(Rank.CHANGE)
def create_project(tx: Tx, items: Sequence[NewProject]) -> Sequence[Project | JobdeckError]:
    """The new project; the existing one where that is fine, else Conflict."""
    return [_create_project(tx, item) for item in items]


def _create_project(tx: Tx, item: NewProject) -> Project | JobdeckError:
    refused = item.asker and lacks(tx, *item.asker, Permission.ADMIN)
    if refused:
        return refused
    existing = find_project(tx.conn, item.team_id, item.slug)
    if existing is not None:
        return existing if item.existing_ok else Conflict(f"this team already has a project {item.slug!r}")
    row = {"id": item.id, "team_id": item.team_id, "slug": item.slug, "name": item.name, "created_at": tx.now}
    tx.conn.execute(insert(projects), row)
    tx.tell(item, item.slug, None, {"name": item.name})
    return _project(row)


def find_team(conn: Connection, slug: str) -> Team | None:
    """The team of that slug."""
    row = conn.execute(select(teams).where(teams.c.slug == slug)).mappings().one_or_none()
    return None if row is None else _team(row)


def list_teams(conn: Connection) -> list[Team]:
    """All teams of people, by slug."""
    query = select(teams).where(teams.c.slug != SYSTEM_TEAM).order_by(teams.c.slug)
    return [_team(row) for row in conn.execute(query).mappings()]


def find_project(conn: Connection, team_id: UUID, slug: str) -> Project | None:
    """The project of that slug in the team."""
    query = select(projects).where(projects.c.team_id == team_id, projects.c.slug == slug)
    row = conn.execute(query).mappings().one_or_none()
    return None if row is None else _project(row)


def list_projects(conn: Connection, team_id: UUID) -> list[Project]:
    """The projects of the team, by slug."""
    query = select(projects).where(projects.c.team_id == team_id).order_by(projects.c.slug)
    return [_project(row) for row in conn.execute(query).mappings()]


def _team(row: Any) -> Team:
    return Team(row["id"], row["slug"], row["name"], from_us(row["created_at"]))


def _project(row: Any) -> Project:
    return Project(row["id"], row["team_id"], row["slug"], row["name"], from_us(row["created_at"]))
