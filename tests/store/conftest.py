"""What the tests of the store share."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest

from jobdeck.store.database import Database
from tests.postgres import PostgresServer, create_database, drop_database
from tests.store.deck import Deck, team_of
from tests.store.histories import LONG, SHORT, History, make_history


@pytest.fixture
async def deck(database: Database) -> Deck:
    """A team on a fresh database."""
    return await team_of(database, "acme")


@pytest.fixture(scope="session")
def made_histories(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str, int], History]]:
    """Databases of a kind with so many runs, each made when it is first asked for."""
    made: dict[tuple[str, int], History] = {}
    folder = tmp_path_factory.mktemp("histories")
    server: PostgresServer = request.getfixturevalue("postgres_server")

    def history(kind: str, number: int) -> History:
        if (kind, number) not in made:
            url = f"sqlite:///{folder / str(number)}.db" if kind == "sqlite" else create_database(server)
            made[kind, number] = make_history(url, number)
        return made[kind, number]

    yield history
    for found in made.values():
        if found.url.startswith("postgresql"):
            drop_database(server, found.url)
    shutil.rmtree(folder)


@pytest.fixture
def short_history(made_histories: Callable[[str, int], History], database_kind: str) -> History:
    """Ten thousand runs. What a test does there it takes back."""
    return made_histories(database_kind, SHORT)


@pytest.fixture
def long_history(made_histories: Callable[[str, int], History], database_kind: str) -> History:
    """A million runs. What a test does there it takes back."""
    return made_histories(database_kind, LONG)
