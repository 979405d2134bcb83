"""How somebody comes into a team by settings: a closed one is, to a stranger, like one that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jobdeck.bootstrap import open_client
from jobdeck.errors import NotFound
from jobdeck.people import Role
from jobdeck.settings import Settings
from jobdeck.store.schema import audit, projects
from tests.store.clients import client_of
from tests.store.deck import Deck


@pytest.fixture
async def shut(deck: Deck) -> Deck:
    """A closed team with a viewer."""
    ada = client_of(deck)
    await ada.members.add("ada", Role.ADMIN)
    await ada.members.add("vic", Role.VIEWER)
    return deck


def settings(url: str, folder: Path, **facts: str) -> Settings:
    """Those of somebody on this database."""
    return Settings.model_validate({"database_url": url, "data_dir": folder, "team": "acme", **facts})


async def refused(made: Settings) -> str:
    """What somebody is told who does not come in."""
    with pytest.raises(NotFound) as caught:
        async with open_client(made):
            pass
    return str(caught.value)


@pytest.mark.parametrize("project", ["nope", "default", "main", ""])
async def test_a_closed_team_looks_like_none(
    shut: Deck, database_url: str, tmp_path: Path, project: str
) -> None:
    """The same words as for a team that is not there, whichever project is named; nothing is made in it."""
    before = await shut.rows(projects)
    closed = await refused(settings(database_url, tmp_path, actor="eve", project=project))
    missing = await refused(settings(database_url, tmp_path, actor="eve", project=project, team="nowhere"))
    assert closed == re.sub("nowhere", "acme", missing)
    assert await shut.rows(projects) == before
    denied = [row for row in await shut.rows(audit) if row["actor"] == "eve"]
    assert [(row["action"], row["outcome"], row["targets"]) for row in denied] == [
        ("team.enter", "denied", '["acme"]')
    ]


async def test_who_may_only_look_makes_no_project(shut: Deck, database_url: str, tmp_path: Path) -> None:
    """A viewer sees the whole team where the project `default` is missing; whoever may write makes it."""
    async with open_client(settings(database_url, tmp_path, actor="vic")) as vic:
        assert await vic.runs.counts() == {}
    assert [row["slug"] for row in await shut.rows(projects)] == ["main"]
    async with open_client(settings(database_url, tmp_path, actor="ada")) as ada:
        assert [project.slug for project in await ada.projects.list()] == ["default", "main"]


async def test_strangers_to_default_find_their_teams(database_url: str, tmp_path: Path, deck: Deck) -> None:
    """That there is a team `default` is no secret; there they get the list of teams, and nothing else."""
    async with open_client(settings(database_url, tmp_path, actor="ada", team="default")) as ada:
        await ada.members.add("ada", Role.ADMIN)
    async with open_client(settings(database_url, tmp_path, actor="eve", team="default")) as eve:
        assert [team.slug for team in await eve.teams.list()] == ["acme"]
        with pytest.raises(NotFound, match="no team 'default'"):
            await eve.projects.list()
