"""SQLite in trouble: locked by others, full, unwritable. It says so in jobdeck's words, loses nothing, and goes on."""

from __future__ import annotations

import asyncio
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobdeck.errors import ConfigError, DatabaseFull, DatabaseUnavailable
from jobdeck.store.database import Database
from jobdeck.store.open import database_of, upgrade
from jobdeck.store.schema import run_events, runs
from jobdeck.store.transaction import Rank, Tx, verb
from tests.databases import opened
from tests.store.deck import Deck, team_of

pytestmark = pytest.mark.parametrize("database_kind", ["sqlite"])


@pytest.fixture(autouse=True)
def _counted(database_kind: str) -> None:
    """Tests without a database of their own count for SQLite too."""


_HOLDER = """
import sqlite3, sys
conn = sqlite3.connect(sys.argv[1], isolation_level=None)
conn.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
conn.execute("ROLLBACK")
"""


@contextmanager
def held_by_another_process(url: str) -> Iterator[None]:
    """The write lock of the file is taken while the block runs."""
    command = [sys.executable, "-c", _HOLDER, url.removeprefix("sqlite:///")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        yield
        holder.communicate("release\n", timeout=20)


@pytest.fixture
async def hasty(database_url: str) -> AsyncIterator[Deck]:
    """A deck on a database that waits no longer than 0.2 s for the write lock."""
    async with opened(database_url, busy_timeout=0.2) as database:
        yield await team_of(database, "acme")


def integrity(url: str) -> str:
    with sqlite3.connect(url.removeprefix("sqlite:///")) as conn:
        found: str = conn.execute("PRAGMA integrity_check").fetchone()[0]
    conn.close()
    return found


async def test_a_write_lock_held_for_too_long(hasty: Deck, database_url: str) -> None:
    """Writers are told after the busy timeout, readers read on, nothing is stored; after the release it goes on."""
    before = await hasty.enqueue()
    with held_by_another_process(database_url):
        answers = await asyncio.gather(*(hasty.enqueue() for _ in range(5)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [DatabaseUnavailable] * 5
        assert "write lock" in str(answers[0])
        assert [run.id for run in await hasty.page()] == [before]
    after = await hasty.enqueue()
    assert [row["id"] for row in await hasty.rows(runs)] == [before, after]


async def test_a_write_lock_held_for_a_moment(deck: Deck, database_url: str) -> None:
    """A writer that is patient enough gets through when the lock is released."""
    with held_by_another_process(database_url):
        waiting = asyncio.create_task(deck.enqueue())
        assert await deck.page() == []
        assert not waiting.done()
    stored = await waiting
    assert [run.id for run in await deck.page()] == [stored]


@verb(Rank.BEAT)
def limit_pages(tx: Tx, items: Sequence[int]) -> Sequence[int]:
    """Let the writer's file grow by no more than so many pages from now."""
    for item in items:
        pages = tx.conn.exec_driver_sql("PRAGMA page_count").scalar_one()
        tx.conn.exec_driver_sql(f"PRAGMA max_page_count={min(pages + item, 2**30)}")
    return items


async def test_a_full_disk(deck: Deck, database_url: str) -> None:
    """What does not fit is DatabaseFull and leaves nothing behind, what was stored stays; with room it goes on."""
    stored: list[Any] = list(await deck.enqueue_many(20))
    await deck.database.write(limit_pages, 40)
    params = '"' + "x" * 20_000 + '"'
    answers: list[object] = []
    while not answers or not isinstance(answers[-1], Exception):
        answers += await asyncio.gather(
            *(deck.enqueue(params=params) for _ in range(3)), return_exceptions=True
        )
    assert {type(answer) for answer in answers if isinstance(answer, Exception)} == {DatabaseFull}
    stored += [answer for answer in answers if not isinstance(answer, Exception)]
    with pytest.raises(DatabaseFull, match="disk"):
        await _fill_up(deck, params, stored)
    assert {row["id"] for row in await deck.rows(runs)} == set(stored)
    assert {row["run_id"] for row in await deck.rows(run_events)} == set(stored)
    await deck.database.write(limit_pages, 2**30)
    stored.append(await deck.enqueue(params=params))
    assert {row["id"] for row in await deck.rows(runs)} == set(stored)
    assert integrity(database_url) == "ok"


async def _fill_up(deck: Deck, params: str, stored: list[Any]) -> None:
    while True:
        stored.append(await deck.enqueue(params=params))


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """Writing beyond `size` bytes fails in this process, as on a disk with an error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def wal_size(url: str) -> int:
    """Bytes of the write-ahead log as it is now."""
    return Path(f"{url.removeprefix('sqlite:///')}-wal").stat().st_size


async def test_a_commit_that_fails(deck: Deck, database_url: str) -> None:
    """The disk refuses the commit itself: nothing is stored, the error is one of jobdeck's, the next write works."""
    first = await deck.enqueue()
    with files_no_longer_than(wal_size(database_url)):
        with pytest.raises(DatabaseUnavailable, match="cannot be used"):
            await deck.enqueue()
        assert [row["id"] for row in await deck.rows(runs)] == [first]
    second = await deck.enqueue()
    assert [row["id"] for row in await deck.rows(runs)] == [first, second]
    assert integrity(database_url) == "ok"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody can enter and only its owner can write to; pytest's own ones are closed to others."""
    with tempfile.TemporaryDirectory(prefix="jobdeck-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
        Path(folder).chmod(0o755)


@contextmanager
def without_privileges() -> Iterator[None]:
    """File modes bind root no more than anybody else while the block runs."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def make_read_only(path: Path) -> None:
    path.chmod(0o555 if path.is_dir() else 0o444)


def names_in(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


async def open_once(path: Path) -> None:
    async with opened(f"sqlite:///{path}") as database:
        await team_of(database, "acme")


async def test_a_folder_that_cannot_be_written(open_folder: Path) -> None:
    """The file is not made, and the error names it and why."""
    make_read_only(open_folder)
    words = r"jobdeck\.db cannot be opened: Permission denied"
    with without_privileges(), pytest.raises(DatabaseUnavailable, match=words):
        await open_once(open_folder / "jobdeck.db")
    assert names_in(open_folder) == set()


async def test_a_file_that_cannot_be_written(open_folder: Path) -> None:
    """A file with the bits of a reader is refused at the start, not at the first write."""
    path = open_folder / "jobdeck.db"
    await upgrade(f"sqlite:///{path}")
    make_read_only(path)
    with without_privileges(), pytest.raises(DatabaseUnavailable, match="Permission denied"):
        await open_once(path)


async def test_a_file_in_a_folder_that_cannot_be_written(open_folder: Path) -> None:
    """SQLite needs to make files beside the database; where it cannot, the error is one of jobdeck's own."""
    path = open_folder / "jobdeck.db"
    await upgrade(f"sqlite:///{path}")
    make_read_only(open_folder)
    # The file itself may be written, also by somebody who is not root.
    os.chmod(path, 0o666)  # noqa: PTH101
    with without_privileges(), pytest.raises(DatabaseUnavailable, match="cannot be used"):
        await open_once(path)


async def test_something_that_is_no_database(tmp_path: Path) -> None:
    """A text file, a folder, a pipe and a folder that is a file are refused with an error of jobdeck's own."""
    text, pipe = tmp_path / "text.db", tmp_path / "pipe.db"
    text.write_text("this is not a database, but it is long enough to look like one " * 20)
    os.mkfifo(pipe)
    (tmp_path / "folder.db").mkdir()
    for path, words in (
        (text, "file is not a database"),
        (pipe, "is not a regular file"),
        (tmp_path / "folder.db", "Is a directory"),
        (text / "below.db", "cannot be opened"),
    ):
        with pytest.raises((DatabaseUnavailable, ConfigError), match=words):
            await open_once(path)


def exchange(path: Path, content: bytes) -> bytes:
    """Put other content into the file; what was in it."""
    before = path.read_bytes()
    path.write_bytes(content)
    return before


async def test_it_can_be_opened_again_after_a_failure(database_url: str) -> None:
    """The same object works once the reason is gone, and is not usable before."""
    path = Path(database_url.removeprefix("sqlite:///"))
    good = exchange(path, b"no database " * 100)
    database: Database = database_of(database_url)
    with pytest.raises(DatabaseUnavailable):
        await database.open()
    with pytest.raises(DatabaseUnavailable):
        await team_of(database, "early")
    exchange(path, good)
    await database.open()
    await team_of(database, "acme")
    await database.close()
