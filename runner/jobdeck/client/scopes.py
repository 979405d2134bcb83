"""Teams and projects."""

from __future__ import annotations

import re

from jobdeck.client.guard import acts, needs
from jobdeck.client.session import Session
from jobdeck.errors import NotFound, ValidationError
from jobdeck.ids import new_id
from jobdeck.limits import NAME_CHARS, SLUG_CHARS, SLUG_PATTERN, SYSTEM_TEAM
from jobdeck.model import Project, Team
from jobdeck.people import Permission, unknown_team
from jobdeck.store import scopes
from jobdeck.store.members import teams_of
from jobdeck.text import clean, quoted


class TeamsApi:
    """Teams of this installation."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @needs(None)
    async def list(self) -> list[Team]:
        """The teams that the actor may know of, by slug."""
        database, actor = self._session.database, self._session.actor
        known = await database.read(teams_of, database.differences, actor)
        return [team for team in await database.read(scopes.list_teams) if team.id in known]

    @needs(None)
    async def show(self, slug: str) -> Team:
        """Raises NotFound, also for a team that the actor does not belong to."""
        for team in await self.list():
            if team.slug == slug:
                return team
        raise unknown_team(clean(slug, NAME_CHARS))

    @acts("team.create", Permission.ADMIN)
    async def create(self, slug: str, name: str | None = None) -> Team:
        """A new team, open until it has members. Made by an admin of the client's own. ValidationError, Conflict."""
        if slug == SYSTEM_TEAM:
            raise ValidationError(
                f"{SYSTEM_TEAM} is the team of jobdeck's own jobs; choose another", field="slug"
            )
        asker = scopes.Asker(self._session.scope.team_id, self._session.actor)
        new = scopes.NewTeam(new_id(), checked_slug(slug, "team"), checked_name(name or slug), asker=asker)
        return await self._session.database.write(scopes.create_team, new)


class ProjectsApi:
    """Projects of the client's team."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @needs(Permission.JOBS_READ)
    async def list(self) -> list[Project]:
        """The team's projects, by slug."""
        return await self._session.database.read(scopes.list_projects, self._session.scope.team_id)

    @needs(Permission.JOBS_READ)
    async def show(self, slug: str) -> Project:
        """Raises NotFound."""
        for project in await self.list():
            if project.slug == slug:
                return project
        raise NotFound(f"no project {quoted(slug, NAME_CHARS)} in this team; see: jobdeck projects list")

    @acts("project.create", Permission.ADMIN)
    async def create(self, slug: str, name: str | None = None) -> Project:
        """Raises ValidationError, Conflict."""
        team_id = self._session.scope.team_id
        new = scopes.NewProject(
            new_id(),
            team_id,
            checked_slug(slug, "project"),
            checked_name(name or slug),
            asker=scopes.Asker(team_id, self._session.actor),
        )
        return await self._session.database.write(scopes.create_project, new)


def checked_slug(slug: str, what: str) -> str:
    """A slug as it may stand in paths and lists. Raises ValidationError."""
    if not re.fullmatch(SLUG_PATTERN, slug):
        raise ValidationError(
            f"{what} {slug[:70]!r} is not a slug: lower-case letters, digits, '-' and '_', at most {SLUG_CHARS}, "
            f"not {len(slug):,} characters",
            field="slug",
        )
    return slug


def checked_name(name: str) -> str:
    """A name for people. Raises ValidationError."""
    if len(name) > NAME_CHARS:
        raise ValidationError(f"a name has at most {NAME_CHARS} characters, not {len(name)}", field="name")
    return clean(name)
