"""Databases of jobdeck for the tests, each a copy of a template that was migrated once: fresh in milliseconds.

A test that takes `database` runs once on SQLite and once on PostgreSQL. One that is about a single kind says so by
`@pytest.mark.parametrize("database_kind", ["sqlite"])`.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from jobdeck.store.database import Database
from jobdeck.store.open import database_of, upgrade
from jobdeck.store.revision import HEAD
from jobdeck.store.schema import APPEND_ONLY, metadata
from tests.postgres import PostgresServer, create_database, drop_database


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """The kind of database a test runs on: it runs once on each."""
    return str(request.param)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the schema of today and nothing in it, to be copied."""
    path = tmp_path_factory.mktemp("template") / "jobdeck.db"
    asyncio.run(upgrade(f"sqlite:///{path}"))
    return path


# A constraint that was taken away and put back does not say again what the rows are.
_REVISION_IN_ORDER = (
    "SELECT version_num FROM alembic_version"
    " WHERE NOT EXISTS (SELECT 1 FROM pg_constraint WHERE NOT convalidated)"
)


class PostgresCopies:
    """Copies of a migrated database. One that a test has left in order is emptied, which is quicker than a new one."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._template = create_database(server)
        asyncio.run(upgrade(self._template))
        self._idle: list[str] = []

    def take(self) -> str:
        """The URL of a database with the schema of today and nothing in it."""
        return self._idle.pop() if self._idle else create_database(self._server, template=self._template)

    def give_back(self, url: str) -> None:
        """Empty it for another test; where a test has left it locked or with another schema, drop it."""
        try:
            with psycopg.connect(url, options="-c lock_timeout=1s") as conn:
                (revision,) = conn.execute(_REVISION_IN_ORDER).fetchone() or ("",)
                for table in reversed(metadata.sorted_tables):
                    name = sql.Identifier(table.name)
                    # What is append-only refuses this to everybody but who takes its triggers away.
                    for command in (
                        (
                            "ALTER TABLE {} DISABLE TRIGGER USER",
                            "DELETE FROM {}",
                            "ALTER TABLE {} ENABLE TRIGGER USER",
                        )
                        if table in APPEND_ONLY
                        else ("DELETE FROM {}",)
                    ):
                        conn.execute(sql.SQL(command).format(name))
        except psycopg.Error:
            revision = ""
        if revision == HEAD:
            self._idle.append(url)
        else:
            drop_database(self._server, url)

    def drop(self) -> None:
        """Drop them all."""
        for url in (*self._idle, self._template):
            drop_database(self._server, url)


@pytest.fixture(scope="session")
def postgres_copies(postgres_server: PostgresServer) -> Iterator[PostgresCopies]:
    """Databases for the tests of this session."""
    copies = PostgresCopies(postgres_server)
    yield copies
    copies.drop()


@pytest.fixture(scope="session")
def runtime_folder() -> Iterator[Path]:
    """Where the processes of a SQLite file meet; not under `tmp_path`, for a socket's path has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="jd-") as folder:
        yield Path(folder)


@pytest.fixture
def database_url(
    database_kind: str,
    tmp_path: Path,
    runtime_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[str]:
    """A fresh, migrated database that nobody has open."""
    if database_kind == "sqlite":
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime_folder))
        path = tmp_path / "jobdeck.db"
        shutil.copy2(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    copies: PostgresCopies = request.getfixturevalue("postgres_copies")
    url = copies.take()
    yield url
    copies.give_back(url)


@asynccontextmanager
async def opened(
    url: str, *, busy_timeout: float = 30.0, command_timeout: float = 60.0
) -> AsyncIterator[Database]:
    """The database behind `url`, open; at the end no connection may be left in use.

    The times to wait for locks are long, because the tests share a machine with others.
    """
    database = database_of(url, busy_timeout=busy_timeout, command_timeout=command_timeout)
    await database.open()
    try:
        yield database
        assert database.checked_out() == 0
    finally:
        await database.close()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A fresh, migrated, open database; its time is moved by `offset_us`."""
    async with opened(database_url) as database:
        yield database
