"""What the tests of the handlers share: an API to read from, a database to write to, contexts to run in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from jobdeck import GuardedClient
from jobdeck.net import AddressPolicy
from jobdeck.testing.clock import FakeClock
from tests.handlers.api import Api, serving
from tests.handlers.context import RecordingContext
from tests.handlers.databases import Database
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
