"""Who may do what in a team: roles, the permissions each of them has, and the refusals of those who lack one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from jobdeck.errors import Forbidden, JobdeckError, NotFound
from jobdeck.limits import DEFAULT_TEAM, SYSTEM_TEAM


class Permission(StrEnum):
    """What an operation asks for."""

    JOBS_READ = "jobs:read"
    """Look at everything of the team, its audit included."""
    JOBS_WRITE = "jobs:write"
    """Make and steer runs and saved jobs."""
    JOBS_APPROVE = "jobs:approve"
    """Decide on runs that await approval."""
    ADMIN = "admin"
    """Members, projects and teams."""


class Role(StrEnum):
    """What a member is; each one may do what those before it may, and something more."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"
    ADMIN = "admin"


_GAINED: Final = dict(zip(Role, Permission, strict=True))
PERMISSIONS: Final = {
    role: frozenset(_GAINED[each] for each in list(Role)[: index + 1]) for index, role in enumerate(Role)
}
"""The permissions of each role."""


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody who belongs to a team. `actor` is the name that acts are done under."""

    team_id: UUID
    actor: str
    role: Role
    added_at: datetime
    added_by: str


def unknown_team(slug: str) -> NotFound:
    """The error for a team that is not there, and for one that the actor does not belong to: they look the same."""
    return NotFound(f"no team {slug!r}; make it with: jobdeck teams create {slug}")


def installation_words(actor: str) -> str:
    """Why somebody may not do what concerns all teams."""
    return (
        f"this concerns all teams and needs an admin of the team {DEFAULT_TEAM}, which {actor} is not; an admin of it "
        f"can change that (see: jobdeck members list --team {DEFAULT_TEAM})"
    )


def refusal(role: Role | None, permission: Permission, team: str, actor: str) -> JobdeckError | None:
    """Why somebody of this role may not; None where they may. A stranger, who has no role, learns of no team."""
    if role is None:
        return unknown_team(team)
    if permission in PERMISSIONS[role]:
        return None
    if team == SYSTEM_TEAM:
        return Forbidden(installation_words(actor), permission=permission)
    return Forbidden(
        f"this needs the permission {permission}, which {actor} does not have as {role} of the team {team}; "
        f"an admin of the team can give it (see: jobdeck members list)",
        permission=permission,
    )
