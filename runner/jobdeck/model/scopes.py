"""Teams and projects."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class TeamScope:
    """The team every read and write of team data is bound to; there is no way to the data without one."""

    team_id: UUID
    slug: str


@dataclass(frozen=True, slots=True)
class Team:
    id: UUID
    slug: str
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Project:
    id: UUID
    team_id: UUID
    slug: str
    name: str
    created_at: datetime
