"""Members of teams and what they may do. A team that has none is open: everybody is its admin.

The team of jobdeck's own jobs has no members and is never open: what is done there concerns all teams, and is up to the
admins of the installation. They are the admins of the team `default`, so the owner of a file is one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, delete, exists, insert, or_, select, update

from jobdeck.clock import from_us
from jobdeck.errors import Conflict, Forbidden, JobdeckError, NotFound
from jobdeck.limits import DEFAULT_TEAM, SYSTEM_TEAM
from jobdeck.model import TeamScope
from jobdeck.people import PERMISSIONS, Member, Permission, Role, installation_words, refusal
from jobdeck.store.differences import Differences
from jobdeck.store.schema import members, teams
from jobdeck.store.transaction import Hint, Rank, Tx, verb


@dataclass(frozen=True, slots=True)
class Admit:
    """A new member of the team."""

    scope: TeamScope
    actor: str
    member: str
    role: Role


@dataclass(frozen=True, slots=True)
class Assign:
    """Another role for a member; None: none, that is, out of the team."""

    scope: TeamScope
    actor: str
    member: str
    role: Role | None


def role_of(conn: Connection, differences: Differences, team_id: UUID, actor: str) -> Role | None:
    """What somebody is in a team; None for a stranger. The owner of a file is admin in whatever it holds."""
    mine = (members.c.team_id == teams.c.id) & (members.c.actor == actor)
    named = select(teams.c.slug, members.c.role).outerjoin(members, mine).where(teams.c.id == team_id)
    slug, role = conn.execute(named).one_or_none() or (None, None)
    if slug == SYSTEM_TEAM:
        return _role_in_system(conn, differences, actor)
    if role != Role.ADMIN and differences.owner(conn) == actor:
        return Role.ADMIN
    if role is not None:
        return Role(role)
    anybody = conn.execute(select(members.c.role).where(members.c.team_id == team_id).limit(1)).scalar()
    return Role.ADMIN if anybody is None else None


def _role_in_system(conn: Connection, differences: Differences, actor: str) -> Role | None:
    """Whoever belongs to a team may look: the system's runs are about the runs of all teams."""
    if is_installation_admin(conn, differences, actor):
        return Role.ADMIN
    return Role.VIEWER if teams_of(conn, differences, actor) else None


def is_installation_admin(conn: Connection, differences: Differences, actor: str) -> bool:
    """Whether somebody may do what concerns all teams.

    As long as there is no team `default`, anybody may: whoever comes first makes it, and it is open then.
    """
    team_id = conn.execute(select(teams.c.id).where(teams.c.slug == DEFAULT_TEAM)).scalar()
    return team_id is None or role_of(conn, differences, team_id, actor) is Role.ADMIN


def lacks_installation(tx: Tx, actor: str) -> JobdeckError | None:
    """Why somebody may not do what concerns all teams, as things stand in this transaction; None where they may."""
    return None if is_installation_admin(tx.conn, tx.differences, actor) else not_installation_admin(actor)


def not_installation_admin(actor: str) -> Forbidden:
    """The error for whoever would do what concerns all teams and may not."""
    return Forbidden(installation_words(actor), permission=Permission.ADMIN)


def teams_of(conn: Connection, differences: Differences, actor: str) -> set[UUID]:
    """The teams of people that somebody may know of: open ones, and those whose member they are."""
    query = select(teams.c.id).where(teams.c.slug != SYSTEM_TEAM)
    if differences.owner(conn) != actor:
        closed = exists().where(members.c.team_id == teams.c.id)
        query = query.where(or_(~closed, closed.where(members.c.actor == actor)))
    return set(conn.execute(query).scalars())


def lacks(tx: Tx, team_id: UUID, actor: str, permission: Permission) -> JobdeckError | None:
    """Why somebody may not, as things stand in this transaction; None where they may."""
    role = role_of(tx.conn, tx.differences, team_id, actor)
    if role is not None and permission in PERMISSIONS[role]:
        return None
    slug: str = tx.conn.execute(select(teams.c.slug).where(teams.c.id == team_id)).scalar_one()
    return refusal(role, permission, slug, actor)


def list_members(conn: Connection, team_id: UUID) -> list[Member]:
    """The members of the team, by name."""
    query = select(members).where(members.c.team_id == team_id).order_by(members.c.actor)
    return [_member(row) for row in conn.execute(query).mappings()]


@verb(Rank.PEOPLE)
def admit(tx: Tx, items: Sequence[Admit]) -> Sequence[Member | JobdeckError]:
    """The new members. Forbidden, and Conflict for one who is there, or a first one who is no admin."""
    return [_admit(tx, item) for item in items]


@verb(Rank.PEOPLE)
def assign(tx: Tx, items: Sequence[Assign]) -> Sequence[Role | JobdeckError]:
    """What each member was before. Forbidden, NotFound, and Conflict where the others would be left without admin."""
    return [_assign(tx, item) for item in items]


def _admit(tx: Tx, item: Admit) -> Member | JobdeckError:
    roles = _locked_roles(tx, item.scope.team_id)
    refused = lacks(tx, item.scope.team_id, item.actor, Permission.ADMIN)
    if refused is not None:
        return refused
    if item.scope.slug == SYSTEM_TEAM:
        return Conflict(
            f"the team {SYSTEM_TEAM} has no members; its admins are those of the team {DEFAULT_TEAM}: "
            f"jobdeck members add {item.member} --team {DEFAULT_TEAM}"
        )
    if item.member in roles:
        return Conflict(
            f"{item.member} is {roles[item.member]} already; to change that: jobdeck members set {item.member}"
        )
    if not roles and item.role is not Role.ADMIN:
        return Conflict(
            "the first member of a team has to be an admin, or nobody could change anything any more: "
            "jobdeck members add NAME --role admin"
        )
    row = {
        "team_id": item.scope.team_id,
        "actor": item.member,
        "role": item.role,
        "added_at": tx.now,
        "added_by": item.actor,
    }
    tx.conn.execute(insert(members), row)
    tx.tell(item, item.member, None, {"role": item.role})
    tx.hint(Hint.CHANGE)
    return _member(row)


def _assign(tx: Tx, item: Assign) -> Role | JobdeckError:
    roles = _locked_roles(tx, item.scope.team_id)
    refused = lacks(tx, item.scope.team_id, item.actor, Permission.ADMIN)
    if refused is not None:
        return refused
    before = roles.pop(item.member, None)
    if before is None:
        return NotFound(
            f"{item.member} is no member of the team {item.scope.slug}; see: jobdeck members list"
        )
    left = roles if item.role is None else {**roles, item.member: item.role}
    if left and Role.ADMIN not in left.values():
        return Conflict(
            f"{item.member} is the last admin of the team {item.scope.slug}; make somebody else one first: "
            "jobdeck members set NAME --role admin"
        )
    row = (members.c.team_id == item.scope.team_id, members.c.actor == item.member)
    if item.role is None:
        tx.conn.execute(delete(members).where(*row))
    else:
        tx.conn.execute(update(members).where(*row).values(role=item.role))
    tx.tell(item, item.member, {"role": before}, None if item.role is None else {"role": item.role})
    tx.hint(Hint.CHANGE)
    return before


def _locked_roles(tx: Tx, team_id: UUID) -> dict[str, Role]:
    """Who is what in the team; nobody else changes that any more."""
    team = select(teams.c.id).where(teams.c.id == team_id)
    tx.conn.execute(tx.differences.locked(team, by=teams.c.id)).one()
    query = select(members.c.actor, members.c.role).where(members.c.team_id == team_id)
    return {actor: Role(role) for actor, role in tx.conn.execute(query)}


def _member(row: Any) -> Member:
    return Member(row["team_id"], row["actor"], Role(row["role"]), from_us(row["added_at"]), row["added_by"])
