"""What the tests of the handlers share: an API to read from, a database to write to, contexts to run in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import pytest
from sqlalchemy import make_url

from jobdeck import GuardedClient
from jobdeck.net import AddressPolicy
from jobdeck.testing.clock import FakeClock
from tests.handlers.api import Api, serving
from tests.handlers.context import RecordingContext
from tests.handlers.databases import Database
from tests.handlers.exporting import Exports
from tests.postgres import PostgresServer, create_database, drop_database

MakeContext: TypeAlias = Callable[..., RecordingContext]


@pytest.fixture
def api() -> Iterator[Api]:
    """A JSON API on loopback."""
    with serving() as running:
        yield running


@pytest.fixture
def clock() -> FakeClock:
    """What the client measures pauses by; it moves when a context sleeps."""
    return FakeClock()


@pytest.fixture
async def client(clock: FakeClock) -> AsyncIterator[GuardedClient]:
    """The guarded client, with loopback opened as a server's configuration would."""
    async with GuardedClient(AddressPolicy(["127.0.0.1/32"]), clock=clock) as guarded:
        yield guarded


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """The kind of database a test runs on: it runs once on each."""
    return str(request.param)


@pytest.fixture
def database(database_kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Database]:
    """An empty database of the kind."""
    if database_kind == "sqlite":
        yield Database(f"sqlite:///{tmp_path / 'target.db'}")
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = create_database(server)
    yield Database(url)
    drop_database(server, url)


@pytest.fixture
def attempt(client: GuardedClient, clock: FakeClock, database: Database) -> MakeContext:
    """Makes contexts of attempts whose project's data file is the database."""

    def make(**options: Any) -> RecordingContext:
        settings = options.pop("settings", {"data_file_url": database.url})
        return RecordingContext(client, settings, clock=clock, **options)

    return make


@pytest.fixture
def reader_url(database: Database) -> Iterator[str]:
    """The database for somebody who only reads: a server's superuser is not let in where SQL is free."""
    if database.kind == "sqlite":
        Path(str(make_url(database.url).database)).touch()
        yield database.url
        return
    if not database.column("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")[0]:
        yield database.url
        return
    role = f"reader_{uuid4().hex}"
    database.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{role}'")
    database.execute(f"GRANT pg_read_all_data TO {role}")
    yield make_url(database.url).set(username=role, password=role).render_as_string(hide_password=False)
    database.execute(f"DROP ROLE {role}")


@pytest.fixture
def exports(reader_url: str, tmp_path: Path) -> Exports:
    """Runs of `export` that read from the database as the project's data file."""
    return Exports(reader_url, tmp_path / "exports")
