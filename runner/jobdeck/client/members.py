"""Who belongs to the client's team."""

from __future__ import annotations

from jobdeck.client.guard import acts, needs
from jobdeck.client.session import Session
from jobdeck.errors import ValidationError
from jobdeck.limits import TAG_CHARS
from jobdeck.people import Member, Permission, Role
from jobdeck.store import members
from jobdeck.text import clean


class MembersApi:
    """Members of the team; a team that has none is open to everybody."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @needs(Permission.JOBS_READ)
    async def list(self) -> list[Member]:
        """The members, by name."""
        return await self._session.database.read(members.list_members, self._session.scope.team_id)

    @acts("member.add", Permission.ADMIN)
    async def add(self, name: str, role: Role) -> Member:
        """A new member; the first one closes the team, and has to be an admin. Raises ValidationError, Conflict."""
        item = members.Admit(self._session.scope, self._session.actor, _checked(name), role)
        return await self._session.database.write(members.admit, item)

    @acts("member.set", Permission.ADMIN)
    async def set(self, name: str, role: Role) -> Role:
        """Give a member another role; what it was. Raises NotFound, Conflict for the last admin."""
        item = members.Assign(self._session.scope, self._session.actor, name, role)
        return await self._session.database.write(members.assign, item)

    @acts("member.remove", Permission.ADMIN)
    async def remove(self, name: str) -> Role:
        """Take a member out of the team; what it was. Raises NotFound, Conflict for the last admin among others."""
        item = members.Assign(self._session.scope, self._session.actor, name, None)
        return await self._session.database.write(members.assign, item)


def _checked(name: str) -> str:
    """A name that acts can be done under. Raises ValidationError."""
    if not name.strip() or clean(name, TAG_CHARS) != name:
        raise ValidationError(
            f"a member is named as jobdeck calls who acts: 1 to {TAG_CHARS} plain characters", field="name"
        )
    return name
