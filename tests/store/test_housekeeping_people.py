"""Pruning, backups and restores by hand: for admins of the installation, and acts of theirs."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from jobdeck.errors import Forbidden, JobdeckError
from jobdeck.housekeeping import make_backup, prune, restore_backup
from jobdeck.people import Role
from jobdeck.settings import Settings
from jobdeck.store.house.backup import back_up
from jobdeck.store.schema import audit, runs
from tests.store.audits import checked
from tests.store.clients import client_of
from tests.store.deck import Deck, team_of

Operate = Callable[[Settings, Path], Awaitable[object]]

ACTS: dict[str, Operate] = {
    "db.prune": lambda made, folder: prune(made),
    "db.backup": lambda made, folder: make_backup(made, folder / "new.backup"),
    "db.restore": lambda made, folder: restore_backup(made, folder / "old.backup", replace=True),
}


@pytest.fixture
async def home(deck: Deck, database_url: str, tmp_path: Path) -> Deck:
    """The team `default`, closed: its admin is boss, its operator ben. There is a run, and a backup of all that."""
    made = await team_of(deck.database, "default")
    await client_of(made, actor="boss").members.add("boss", Role.ADMIN)
    await client_of(made, actor="boss").members.add("ben", Role.OPERATOR)
    await deck.enqueue()
    await back_up(database_url, tmp_path / "old.backup")
    return made


def settings(url: str, folder: Path, actor: str) -> Settings:
    """Those of somebody on this database."""
    return Settings(database_url=url, data_dir=folder, actor=actor)


@pytest.mark.parametrize("action", ACTS)
async def test_only_admins_of_the_installation(
    home: Deck, database_url: str, tmp_path: Path, action: str
) -> None:
    """Denied to others before anything is done, also to the admin of an open team; one row each, in a whole audit."""
    for actor in ("ben", "eve"):
        with pytest.raises(Forbidden, match=f"concerns all teams.*which {actor} is not"):
            await ACTS[action](settings(database_url, tmp_path, actor), tmp_path)
    assert not (tmp_path / "new.backup").exists()
    rows = (await home.rows(audit))[2:]
    assert [(row["action"], row["actor"], row["outcome"]) for row in rows] == [
        (action, "ben", "denied"),
        (action, "eve", "denied"),
    ]
    await ACTS[action](settings(database_url, tmp_path, "boss"), tmp_path)
    done = (await home.rows(audit))[-1]
    assert (done["action"], done["actor"], done["outcome"]) == (action, "boss", "done")
    assert done["team_id"] == home.scope.team_id
    assert json.loads(done["after"])["runs"] == (0 if action == "db.prune" else 1)
    assert len(await home.rows(runs)) == 1
    assert (await checked(home.database)).ok


@pytest.mark.parametrize("action", ACTS)
async def test_an_open_installation_asks_nobody(
    deck: Deck, database_url: str, tmp_path: Path, action: str
) -> None:
    """As long as there are no members anybody may, and it is told of."""
    await deck.enqueue()
    await back_up(database_url, tmp_path / "old.backup")
    await ACTS[action](settings(database_url, tmp_path, "eve"), tmp_path)
    (row,) = await deck.rows(audit)
    assert (row["action"], row["actor"], row["team_id"]) == (action, "eve", None)


async def test_to_look_is_no_act(home: Deck, database_url: str, tmp_path: Path) -> None:
    """What would be pruned is shown to the same people, and leaves no row."""
    before = await home.rows(audit)
    await prune(settings(database_url, tmp_path, "boss"), dry_run=True)
    assert await home.rows(audit) == before
    with pytest.raises(Forbidden):
        await prune(settings(database_url, tmp_path, "eve"), dry_run=True)


async def test_a_database_that_is_not_there_yet(tmp_path: Path, deck: Deck, database_url: str) -> None:
    """A restore into a new file asks nobody; a backup of none makes none."""
    await back_up(database_url, tmp_path / "old.backup")
    new = settings(f"sqlite:///{tmp_path / 'new' / 'deck.db'}", tmp_path / "new", "eve")
    with pytest.raises(JobdeckError):
        await make_backup(new, tmp_path / "none.backup")
    assert not (tmp_path / "none.backup").exists()
    await restore_backup(new, tmp_path / "old.backup")
    assert (tmp_path / "new" / "deck.db").exists()
