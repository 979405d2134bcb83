"""Teams and projects: made once, listed by slug, and walls between what belongs to them."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy.exc import IntegrityError

from jobdeck.errors import Conflict
from jobdeck.ids import new_id, show_id
from jobdeck.model import RunFilter
from jobdeck.store.database import Database
from jobdeck.store.leases import report as store_report
from jobdeck.store.lists import detail, listing
from jobdeck.store.lists.counts import counts
from jobdeck.store.scopes import (
    NewProject,
    NewTeam,
    create_project,
    create_team,
    find_project,
    find_team,
    list_projects,
    list_teams,
)
from tests.databases import opened
from tests.store.deck import Deck, report, team_of


async def test_a_team_is_found_and_listed(database: Database) -> None:
    """What was created is found by its slug, and all are listed by slug."""
    made = [
        await database.write(create_team, NewTeam(new_id(), slug, slug.upper())) for slug in ("beta", "alpha")
    ]
    assert await database.read(find_team, "beta") == made[0]
    assert await database.read(find_team, "Beta") is None
    assert await database.read(list_teams) == made[::-1]


async def test_a_slug_is_taken_once(deck: Deck) -> None:
    """A second team or project of a slug is a Conflict, or the existing one where the caller can do with that."""
    write, team_id = deck.database.write, deck.scope.team_id
    with pytest.raises(Conflict, match="already a team 'acme'"):
        await write(create_team, NewTeam(new_id(), "acme", "Other"))
    with pytest.raises(Conflict, match="already has a project 'main'"):
        await write(create_project, NewProject(new_id(), team_id, "main", "Other"))
    same = await write(create_team, NewTeam(new_id(), "acme", "Other", existing_ok=True))
    assert (same.id, same.name) == (team_id, "Acme")
    project = await write(create_project, NewProject(new_id(), team_id, "main", "Other", existing_ok=True))
    assert project == deck.project


async def test_a_project_slug_belongs_to_its_team(deck: Deck) -> None:
    """Two teams may each have a project of one name; each finds and lists only its own."""
    other = await team_of(deck.database, "other")
    assert other.project.slug == deck.project.slug
    for each in (deck, other):
        team_id = each.scope.team_id
        assert await deck.database.read(find_project, team_id, "main") == each.project
        assert await deck.database.read(list_projects, team_id) == [each.project]


async def test_a_project_needs_its_team(database: Database) -> None:
    """A project of a team that does not exist is refused by the database."""
    with pytest.raises(IntegrityError):
        await database.write(create_project, NewProject(new_id(), new_id(), "main", "Main"))


async def test_ten_at_once_make_one_default_team(database: Database, database_url: str) -> None:
    """Processes that start together and all want the team `default` get the same one."""
    async with opened(database_url) as other:
        wanted = [NewTeam(new_id(), "default", "Default", existing_ok=True) for _ in range(10)]
        found = await asyncio.gather(
            *((database, other)[n % 2].write(create_team, item) for n, item in enumerate(wanted))
        )
    assert len({team.id for team in found}) == 1
    assert await database.read(list_teams) == [found[0]]


async def test_no_read_crosses_teams(deck: Deck) -> None:
    """Record, log, list, counts, by id and by part of the id: a team sees nothing of another one's run."""
    other = await team_of(deck.database, "other")
    claimed = await other.started(name="secret plans")
    await deck.database.write(store_report, report(claimed, "secret line"))
    database, scope, run_id = deck.database, deck.scope, claimed.id
    now = await deck.now()
    assert await database.read(detail.show, now, scope, run_id) is None
    assert await database.read(detail.logs, database.differences, scope, run_id) == []
    assert await database.read(listing.by_ids, now, scope, [run_id]) == []
    assert not await database.read(listing.exists, scope, run_id)
    assert await database.read(counts, scope) == {}
    assert await deck.page() == await deck.page(RunFilter(text="secret")) == []
    shown = show_id("run", run_id).removeprefix("run_")
    for part in (shown[:8], shown[-8:]):
        assert await deck.ids_like(part) == []
    assert len(await other.page()) == 1
