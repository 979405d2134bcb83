"""What concerns all teams: the team of jobdeck's own jobs, and pauses of everything. No open team serves for that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from jobdeck.client import Client, guard
from jobdeck.client.session import Session
from jobdeck.errors import Conflict, Forbidden, NotFound
from jobdeck.model import TeamScope
from jobdeck.people import Role
from jobdeck.settings.folders import os_user
from jobdeck.store.house.system_jobs import SystemJob, keep_system_jobs
from jobdeck.store.schema import pauses
from jobdeck.store.scopes import find_team
from tests.store.audits import acts
from tests.store.clients import client_of
from tests.store.deck import Deck, team_of

PRUNE = SystemJob("prune", "system.prune", "Prune", "11 3 * * *")


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Roles are read for every operation, so that a test sees a change at once."""
    monkeypatch.setattr(guard, "_FRESH", 0.0)


@pytest.fixture
async def home(deck: Deck) -> Deck:
    """The team `default`, closed: boss is its admin, ben its operator; `acme` beside it stays open."""
    made = await team_of(deck.database, "default")
    boss = client_of(made, actor="boss")
    await boss.members.add("boss", Role.ADMIN)
    await boss.members.add("ben", Role.OPERATOR)
    await deck.database.write(keep_system_jobs, [PRUNE])
    return made


async def in_system(deck: Deck, actor: str) -> Client:
    """Somebody in the team of jobdeck's own jobs."""
    team = await deck.database.read(find_team, "system")
    assert team is not None
    return Client(Session(deck.database, TeamScope(team.id, team.slug), None, actor, lambda _: None))


async def _switch(client: Client) -> None:
    await client.jobs.switch([await client.jobs.resolve("prune")], enabled=False)


SYSTEM_ACTS: dict[str, Callable[[Client], Awaitable[object]]] = {
    "pause all": lambda client: client.pauses.pause("all"),
    "pause the team": lambda client: client.pauses.pause("team"),
    "disable a job": _switch,
}


@pytest.mark.parametrize("act", SYSTEM_ACTS)
@pytest.mark.parametrize("actor", ["ben", "eve"])
async def test_the_system_team_is_never_open(deck: Deck, home: Deck, actor: str, act: str) -> None:
    """Although it has no members, whoever is no admin of `default` only looks; its admins act."""
    someone = await in_system(deck, actor)
    assert [job.slug for job in await someone.jobs.list()] == ["prune"]
    with pytest.raises(
        Forbidden, match=f"concerns all teams.*admin of the team default, which {actor} is not"
    ):
        await SYSTEM_ACTS[act](someone)
    assert await deck.rows(pauses) == []
    await SYSTEM_ACTS[act](await in_system(deck, "boss"))


async def test_who_belongs_to_no_team_sees_nothing_of_the_systems(deck: Deck, home: Deck) -> None:
    """With every team closed a stranger to all of them learns nothing there either."""
    await client_of(deck).members.add("ada", Role.ADMIN)
    with pytest.raises(NotFound, match="no team 'system'"):
        await (await in_system(deck, "eve")).jobs.list()
    assert len(await (await in_system(deck, "ada")).jobs.list()) == 1


async def test_the_system_team_takes_no_members(deck: Deck, home: Deck) -> None:
    """Not even from an admin of the installation, who is told where that is done; nobody can take it over."""
    for actor, error in (("eve", Forbidden), ("boss", Conflict)):
        with pytest.raises(error, match="default"):
            await (await in_system(deck, actor)).members.add(actor, Role.ADMIN)
    assert await (await in_system(deck, "boss")).members.list() == []


async def test_an_open_team_does_not_serve_to_pause_everything(deck: Deck, home: Deck) -> None:
    """Its admins pause it alone; everything is paused and resumed by an admin of `default`, from whatever team."""
    for actor in ("eve", "ben"):
        with pytest.raises(Forbidden, match="concerns all teams"):
            await client_of(deck, actor=actor).pauses.pause("all")
    await client_of(deck, actor="boss").pauses.pause("all")
    with pytest.raises(Forbidden, match="concerns all teams"):
        await client_of(deck, actor="eve").pauses.resume("all")
    assert len(await deck.rows(pauses)) == 1
    await client_of(deck, actor="boss").pauses.resume("all")
    await client_of(deck, actor="eve").pauses.pause("team")
    denied = [row for row in await acts(deck) if row[1] == "denied"]
    assert denied == [("pause.start", "denied", "forbidden")] * 2 + [("pause.end", "denied", "forbidden")]


async def test_everything_is_looked_at_in_its_own_transaction(
    deck: Deck, home: Deck, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An admin who has just lost that role pauses nothing, whatever the client remembers."""
    monkeypatch.setattr(guard, "_FRESH", 3_600.0)
    boss, ben = client_of(home, actor="boss"), client_of(home, actor="ben")
    await boss.members.set("ben", Role.ADMIN)
    await ben.pauses.pause("all")
    await boss.members.set("ben", Role.OPERATOR)
    with pytest.raises(Forbidden):
        await ben.pauses.resume("all")


async def test_the_owner_of_the_file_is_admin_of_the_installation(
    deck: Deck, home: Deck, database_kind: str
) -> None:
    """Nobody keeps out whoever can replace the file; on a server the name means nothing."""
    owner = await in_system(deck, os_user())
    if database_kind == "sqlite":
        await owner.pauses.pause("all")
        return
    with pytest.raises(Forbidden):
        await owner.pauses.pause("all")


async def test_a_fresh_installation_is_everybodys(deck: Deck) -> None:
    """While `default` has no members, or is not there yet, anybody may do what concerns all teams."""
    await client_of(deck, actor="eve").pauses.pause("all")
    await team_of(deck.database, "default")
    await client_of(deck, actor="eve").pauses.resume("all")
