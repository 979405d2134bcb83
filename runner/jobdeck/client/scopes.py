"""Teams and projects."""

from __future__ import annotations

import re

from jobdeck.client.session import Session
from jobdeck.errors import ValidationError
from jobdeck.ids import new_id
from jobdeck.limits import NAME_CHARS, SLUG_PATTERN, SYSTEM_TEAM
from jobdeck.model import Project, Team
from jobdeck.store import scopes
from jobdeck.text import clean


class TeamsApi:
    """Teams of this installation."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def list(self) -> list[Team]:
        """All teams, by slug."""
        return await self._session.database.read(scopes.list_teams)

    async def create(self, slug: str, name: str | None = None) -> Team:
        """Raises ValidationError, Conflict."""
        if slug == SYSTEM_TEAM:
            raise ValidationError(
                f"{SYSTEM_TEAM} is the team of jobdeck's own jobs; choose another", field="slug"
            )
        new = scopes.NewTeam(new_id(), checked_slug(slug, "team"), checked_name(name or slug))
        return await self._session.database.write(scopes.create_team, new)


class ProjectsApi:
    """Projects of the client's team."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def list(self) -> list[Project]:
        """The team's projects, by slug."""
        return await self._session.database.read(scopes.list_projects, self._session.scope.team_id)

    async def create(self, slug: str, name: str | None = None) -> Project:
        """Raises ValidationError, Conflict."""
        new = scopes.NewProject(
            new_id(), self._session.scope.team_id, checked_slug(slug, "project"), checked_name(name or slug)
        )
        return await self._session.database.write(scopes.create_project, new)


def checked_slug(slug: str, what: str) -> str:
    """A slug as it may stand in paths and lists. Raises ValidationError."""
    if not re.fullmatch(SLUG_PATTERN, slug):
        raise ValidationError(
            f"{what} {slug[:70]!r} is not a slug: lower-case letters, digits, '-' and '_', at most 64",
            field="slug",
        )
    return slug


def checked_name(name: str) -> str:
    """A name for people. Raises ValidationError."""
    if len(name) > NAME_CHARS:
        raise ValidationError(f"a name has at most {NAME_CHARS} characters, not {len(name)}", field="name")
    return clean(name)
