"""The files of SQLite: private whatever the umask, never through a planted link, under any name."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobdeck.errors import ConfigError, DatabaseUnavailable
from jobdeck.store.open import database_of, upgrade
from jobdeck.store.sqlite.database import SqliteDatabase
from tests.databases import opened
from tests.store.deck import team_of

pytestmark = pytest.mark.parametrize("database_kind", ["sqlite"])


@pytest.fixture(autouse=True)
def _counted(database_kind: str) -> None:
    """These tests make their own files; they count for SQLite."""


@contextmanager
def umask(value: int) -> Iterator[None]:
    """Files are made under another umask while the block runs."""
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


def names_in(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("first", ["upgrade", "open"])
async def test_files_are_private(tmp_path: Path, mask: int, first: str) -> None:
    """Database, -wal and -shm are 0600 and a new folder is 0700 under any umask, whoever makes the file."""
    folder = tmp_path / "data"
    path = folder / "jobdeck.db"
    with umask(mask):
        if first == "open":
            async with opened(f"sqlite:///{path}"):
                pass
        await upgrade(f"sqlite:///{path}")
        async with opened(f"sqlite:///{path}") as database:
            await team_of(database, "acme")
            modes = {entry.name: mode(entry) for entry in folder.iterdir()}
    assert modes == dict.fromkeys(("jobdeck.db", "jobdeck.db-wal", "jobdeck.db-shm"), 0o600)
    assert mode(folder) == 0o700


async def test_modes_that_somebody_chose_stay(tmp_path: Path) -> None:
    """A file that has content keeps its mode, for instance one that a group shares; the folder keeps its own."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o750)
    path = folder / "jobdeck.db"
    await upgrade(f"sqlite:///{path}")
    path.chmod(0o660)
    async with opened(f"sqlite:///{path}"):
        assert (mode(path), mode(folder)) == (0o660, 0o750)


@pytest.mark.parametrize("target", ["victim", "nowhere"])
async def test_a_planted_link_is_refused(tmp_path: Path, target: str) -> None:
    """A symlink in the place of the database is not followed: neither an existing file nor a new one is touched."""
    victim, path = tmp_path / target, tmp_path / "jobdeck.db"
    if target == "victim":
        victim.write_text("precious")
        victim.chmod(0o644)
    path.symlink_to(victim)
    for attempt in (upgrade(f"sqlite:///{path}"), _open(path)):
        with pytest.raises(DatabaseUnavailable, match="cannot be opened"):
            await attempt
    if target == "victim":
        assert (victim.read_text(), mode(victim)) == ("precious", 0o644)
    else:
        assert not victim.exists()


async def _open(path: Path) -> None:
    async with opened(f"sqlite:///{path}"):
        pass


@pytest.mark.parametrize(
    "name", ["with space.db", "a?b=c.db", "hash#tag.db", "100%41.db", "ünï.db", "semi;colon&.db"]
)
async def test_any_file_name(tmp_path: Path, name: str) -> None:
    """The file that is made private is the file that SQLite opens, also where its name looks like part of a URL."""
    path = tmp_path / name
    database = SqliteDatabase(path)
    await database.open()
    await database.read(lambda conn: conn.exec_driver_sql("SELECT 1").scalar())
    await database.close()
    assert names_in(tmp_path) == {name}


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("mysql://host/db", "not on mysql"),
        ("just words", "is not a URL"),
        ("", "is not a URL"),
    ],
)
def test_urls_that_jobdeck_cannot_use(url: str, words: str) -> None:
    """Each is refused with the reason before anything is opened."""
    with pytest.raises(ConfigError, match=words):
        database_of(url)


async def test_a_runtime_folder_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no private folder for sockets is to be had, the database works all the same; hints are a comfort only."""
    shared = tmp_path / "runtime"
    (shared / "jobdeck").mkdir(parents=True)
    (shared / "jobdeck").chmod(0o777)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(shared))
    path = tmp_path / "jobdeck.db"
    await upgrade(f"sqlite:///{path}")
    async with opened(f"sqlite:///{path}") as database:
        await team_of(database, "acme")
    assert list((shared / "jobdeck").iterdir()) == []


async def test_a_runtime_folder_whose_path_is_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket path beyond 107 bytes cannot be had; the database works all the same and leaves no socket open."""
    deep = tmp_path / ("x" * 120)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    path = tmp_path / "jobdeck.db"
    await upgrade(f"sqlite:///{path}")
    async with opened(f"sqlite:///{path}") as database:
        await team_of(database, "acme")


async def test_the_driver_of_postgresql_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without asyncpg a server's URL is refused with the command that installs it, for working and for upgrading."""
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    url = "postgresql://user@host/name"
    with pytest.raises(ConfigError, match=r"pip install \"jobdeck\[postgres\]\""):
        database_of(url)
    with pytest.raises(ConfigError, match=r"pip install \"jobdeck\[postgres\]\""):
        await upgrade(url)


async def test_to_open_a_file_again_takes_no_lock_away(tmp_path: Path) -> None:
    """Where this process opens the file twice, another one that comes and goes must not remove the log in use.

    What is committed afterwards is in the file for everybody.
    """
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    await upgrade(url)
    async with opened(url) as database:
        team = await team_of(database, "acme")
        async with opened(url):
            ...
        await upgrade(url)
        assert _count_elsewhere(tmp_path / "jobs.db") == 0
        await team.enqueue()
        assert _count_elsewhere(tmp_path / "jobs.db") == 1


def _count_elsewhere(path: Path) -> int:
    """How many runs another process finds; it is the last one to close as far as locks tell."""
    code = f"import sqlite3; print(sqlite3.connect({str(path)!r}).execute('SELECT count(*) FROM runs').fetchone()[0])"
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)
