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

import pytest

from jobdeck.store.database import Database
from jobdeck.store.open import database_of, upgrade
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


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a database with the schema of today and nothing in it, to be copied."""
    url = create_database(postgres_server)
    asyncio.run(upgrade(url))
    yield url
    drop_database(postgres_server, url)


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
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = create_database(server, template=request.getfixturevalue("postgres_template"))
    yield url
    drop_database(server, url)


@asynccontextmanager
async def opened(url: str, *, busy_timeout: float = 30.0) -> AsyncIterator[Database]:
    """The database behind `url`, open; at the end no connection may be left in use.

    The time to wait for SQLite's write lock is long, because the tests share a machine with others.
    """
    database = database_of(url, busy_timeout=busy_timeout)
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
