"""Members of teams: who may do what, who may change that, and that nobody is locked out by a mistake."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from jobdeck.client import Client, guard
from jobdeck.errors import Conflict, Forbidden, JobdeckError, NotFound, ValidationError
from jobdeck.model import RunExtras
from jobdeck.people import PERMISSIONS, Permission, Role
from jobdeck.settings.folders import os_user
from jobdeck.store.members import Assign, assign
from tests.databases import opened
from tests.store.clients import client_of
from tests.store.deck import Deck, team_of


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Roles are read for every operation, so that a test sees a change at once."""
    monkeypatch.setattr(guard, "_FRESH", 0.0)


async def closed(deck: Deck) -> Client:
    """A team with one member of each role, and a client of its admin."""
    ada = client_of(deck)
    await ada.members.add("ada", Role.ADMIN)
    for role in (Role.APPROVER, Role.OPERATOR, Role.VIEWER):
        await ada.members.add(role, role)
    return ada


def test_the_table_of_roles() -> None:
    """A ladder: each role may do what the one before it may, and one thing more."""
    assert {role: sorted(found) for role, found in PERMISSIONS.items()} == {
        Role.VIEWER: ["jobs:read"],
        Role.OPERATOR: ["jobs:read", "jobs:write"],
        Role.APPROVER: ["jobs:approve", "jobs:read", "jobs:write"],
        Role.ADMIN: ["admin", "jobs:approve", "jobs:read", "jobs:write"],
    }


async def test_a_team_without_members_is_open(deck: Deck) -> None:
    """Whoever comes to a fresh installation may do everything, approve included."""
    run = await client_of(deck).runs.trigger("sync", requires_approval=True)
    assert (await client_of(deck, actor="ben").runs.approve(run.id)).status == "pending"
    assert await client_of(deck).members.list() == []


READS: dict[Permission, Callable[[Client, Deck], Awaitable[object]]] = {
    Permission.JOBS_READ: lambda client, deck: client.runs.counts(),
    Permission.JOBS_WRITE: lambda client, deck: client.runs.trigger("sync"),
    Permission.JOBS_APPROVE: lambda client, deck: _approve(client, deck),
    Permission.ADMIN: lambda client, deck: client.projects.create(f"made-by-{client.actor}"),
}


async def _approve(client: Client, deck: Deck) -> object:
    return await client.runs.approve(await deck.enqueue(extras=RunExtras(requires_approval=True)))


@pytest.mark.parametrize("permission", Permission)
async def test_each_role_may_what_the_table_says(deck: Deck, permission: Permission) -> None:
    """Whoever has the permission gets on; others are told which one it is, what they are, and who can help."""
    await closed(deck)
    for role, actor in ((role, "ada" if role is Role.ADMIN else role.value) for role in Role):
        client = client_of(deck, actor=actor)
        if permission in PERMISSIONS[role]:
            await READS[permission](client, deck)
            continue
        with pytest.raises(
            Forbidden, match=f"permission {permission}, which {actor}.*as {role}.*admin"
        ) as caught:
            await READS[permission](client, deck)
        assert (caught.value.exit_code, caught.value.details()["permission"]) == (6, permission)


async def test_a_stranger_learns_of_no_team(deck: Deck) -> None:
    """Every operation says what it says of a team that is not there; the list of teams leaves it out."""
    await closed(deck)
    eve = client_of(deck, actor="eve")
    other = await team_of(deck.database, "other")
    for operation in READS.values():
        with pytest.raises(NotFound, match="no team 'acme'; make it with: jobdeck teams create acme"):
            await operation(eve, deck)
    assert [team.slug for team in await eve.teams.list()] == ["other"]
    with pytest.raises(NotFound, match="no team 'acme'"):
        await eve.teams.show("acme")
    assert (await eve.teams.show("other")).id == other.scope.team_id
    assert [team.slug for team in await client_of(deck).teams.list()] == ["acme", "other"]


async def test_the_first_member_is_an_admin(deck: Deck) -> None:
    """Any other first one would leave nobody who could change anything."""
    ada = client_of(deck)
    with pytest.raises(Conflict, match="first member of a team has to be an admin"):
        await ada.members.add("ben", Role.OPERATOR)
    assert (await ada.members.add("ben", Role.ADMIN)).role is Role.ADMIN
    with pytest.raises(NotFound):
        await ada.members.list()


async def test_the_last_admin_stays_while_there_are_others(deck: Deck) -> None:
    """Neither removed nor demoted, also not by themselves; alone they may go, and the team is open again."""
    ada = await closed(deck)
    for change in (ada.members.remove("ada"), ada.members.set("ada", Role.VIEWER)):
        with pytest.raises(Conflict, match=r"ada is the last admin.*make somebody else one first"):
            await change
    assert await ada.members.set("viewer", Role.ADMIN) is Role.VIEWER
    assert await ada.members.set("ada", Role.OPERATOR) is Role.ADMIN
    boss = client_of(deck, actor="viewer")
    for name in ("ada", "approver", "operator", "viewer"):
        await boss.members.remove(name)
    assert await client_of(deck, actor="eve").members.list() == []


async def test_two_admins_cannot_remove_each_other(deck: Deck, database_url: str) -> None:
    """Of two who do it at the same moment one is too late: some admin is always left."""
    await closed(deck)
    ada = client_of(deck)
    async with opened(database_url) as database:
        for _ in range(10):
            await ada.members.set("viewer", Role.ADMIN)
            results = await asyncio.gather(
                deck.database.write(assign, Assign(deck.scope, "ada", "viewer", Role.VIEWER)),
                database.write(assign, Assign(deck.scope, "viewer", "ada", Role.VIEWER)),
                return_exceptions=True,
            )
            assert sum(isinstance(result, JobdeckError) for result in results) == 1
            roles = {
                member.actor: member.role for member in await client_of(deck, actor="operator").members.list()
            }
            assert Role.ADMIN in (roles["ada"], roles["viewer"])
            if roles["ada"] is not Role.ADMIN:
                await client_of(deck, actor="viewer").members.set("ada", Role.ADMIN)
                await ada.members.set("viewer", Role.VIEWER)


async def test_what_matters_most_is_looked_at_in_its_own_transaction(
    deck: Deck, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An approver and an admin who have just lost their role do nothing any more, whatever their client remembers."""
    ada = await closed(deck)
    await ada.members.add("ben", Role.ADMIN)
    monkeypatch.setattr(guard, "_FRESH", 3_600.0)
    ben, run_id = client_of(deck, actor="ben"), await deck.enqueue(extras=RunExtras(requires_approval=True))
    await ben.runs.counts()
    await ada.members.set("ben", Role.OPERATOR)
    for act in (
        ben.runs.approve(run_id),
        ben.runs.reject(run_id, reason="no"),
        ben.members.set("viewer", Role.ADMIN),
        ben.members.add("friend", Role.ADMIN),
        ben.teams.create("more"),
        ben.projects.create("more"),
    ):
        with pytest.raises(Forbidden):
            await act
    await ada.members.remove("ben")
    with pytest.raises(NotFound):
        await ben.runs.approve(run_id)


async def test_a_role_is_read_once_for_many_operations(deck: Deck, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand triggers ask for the role once: the check costs them no way to the database."""
    monkeypatch.setattr(guard, "_FRESH", 3_600.0)
    asked: list[str] = []

    def role_of(_conn: object, _differences: object, _team_id: object, actor: str) -> Role:
        asked.append(actor)
        return Role.OPERATOR

    monkeypatch.setattr(guard, "role_of", role_of)
    client = client_of(deck)
    for _ in range(20):
        await asyncio.gather(*(client.runs.enqueue("sync") for _ in range(50)))
    assert 1 <= len(asked) <= 50
    await client.runs.enqueue("sync")
    assert len(asked) <= 50


async def test_names_of_members(deck: Deck) -> None:
    """Whatever could not be the name of somebody who acts is refused, and so is what is there or is not."""
    ada = await closed(deck)
    for name in ("", "  ", "a\nb", "\x1b[31mred", "x" * 129):
        with pytest.raises(ValidationError, match="plain characters"):
            await ada.members.add(name, Role.VIEWER)
    with pytest.raises(Conflict, match=r"viewer is viewer already.*members set viewer"):
        await ada.members.add("viewer", Role.OPERATOR)
    for change in (ada.members.set("nobody", Role.VIEWER), ada.members.remove("nobody")):
        with pytest.raises(NotFound, match="nobody is no member of the team acme"):
            await change


async def test_the_owner_of_the_file_is_always_admin(deck: Deck, database_kind: str) -> None:
    """Nobody locks out whoever can replace the file anyway; on a server the name alone means nothing."""
    await closed(deck)
    owner = client_of(deck, actor=os_user())
    if database_kind == "sqlite":
        assert len(await owner.members.list()) == 4
        assert await owner.members.set("viewer", Role.OPERATOR) is Role.VIEWER
        assert [team.slug for team in await owner.teams.list()] == ["acme"]
    else:
        with pytest.raises(NotFound):
            await owner.members.list()


async def test_a_member_of_one_team_is_a_stranger_to_another(deck: Deck) -> None:
    """A role counts in its own team alone."""
    other = await team_of(deck.database, "other")
    await closed(deck)
    await client_of(other, actor="ben").members.add("ben", Role.ADMIN)
    with pytest.raises(NotFound, match="no team 'other'"):
        await client_of(other).runs.counts()
    assert await client_of(other, actor="ben").runs.counts() == {}
