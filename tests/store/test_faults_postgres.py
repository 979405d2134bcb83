"""PostgreSQL in trouble: connections ended by the server, no server at all. Outcomes stay known, and it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from jobdeck.errors import DatabaseUnavailable
from jobdeck.store.enqueue import enqueue
from jobdeck.store.lists.counts import counts
from jobdeck.store.open import database_of, upgrade
from jobdeck.store.schema import run_events, runs
from tests.databases import opened
from tests.postgres import PostgresServer
from tests.store.deck import Deck, team_of
from tests.store.rival import Rival

pytestmark = pytest.mark.parametrize("database_kind", ["postgresql"])

_OTHERS = "datname = current_database() AND pid <> pg_backend_pid()"


@pytest.fixture(autouse=True)
def _counted(database_kind: str) -> None:
    """Tests without a database of their own count for PostgreSQL too."""


@pytest.fixture
def admin(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection that ends others."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def end_all(admin: psycopg.Connection[Any], which: str = "true") -> int:
    """End the other connections to this database; how many there were."""
    query = f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {_OTHERS} AND {which}"
    return len(admin.execute(query).fetchall())  # type: ignore[call-overload,unused-ignore]


async def enqueued(deck: Deck) -> Any:
    """The id of a new run, from the first attempt that works; an attempt that fails must be DatabaseUnavailable."""
    for _ in range(5):
        try:
            return await deck.enqueue()
        except DatabaseUnavailable:
            continue
    raise AssertionError("the database did not come back")


async def test_connections_that_were_ended_are_replaced(deck: Deck, admin: psycopg.Connection[Any]) -> None:
    """All connections are ended while nothing is under way: writes and reads fail at most briefly, then work."""
    first = await deck.enqueue()
    assert end_all(admin) >= 2
    second = await enqueued(deck)
    for _ in range(5):
        try:
            found = await deck.rows(runs)
            break
        except DatabaseUnavailable:
            continue
    assert [row["id"] for row in found] == sorted([first, second])
    assert deck.database.checked_out() == 0


async def test_a_connection_ended_in_the_middle(
    deck: Deck, admin: psycopg.Connection[Any], database_url: str
) -> None:
    """The server ends a transaction that waits for a lock: nothing of it is stored, and it is done again, once."""
    with Rival(database_url) as rival:
        held = deck.new_run(flight_key="k")
        rival.run(enqueue, held)
        waiting = asyncio.create_task(deck.enqueue(flight_key="k"))
        for _ in range(2):
            await rival.until_waited_for()
            assert end_all(admin, "wait_event_type = 'Lock'") == 1
        with pytest.raises(DatabaseUnavailable, match="cannot be reached"):
            await waiting
        again = asyncio.create_task(deck.enqueue(flight_key="k"))
        await rival.until_waited_for()
        assert end_all(admin, "wait_event_type = 'Lock'") == 1
        await rival.until_waited_for()
    stored = await again
    assert [row["id"] for row in await deck.rows(runs)] == [stored]


async def test_outcomes_under_fire(deck: Deck, admin: psycopg.Connection[Any]) -> None:
    """Connections are ended again and again under 200 writers: who got an id is stored, whole, and nobody hangs."""
    answered: set[Any] = set()
    failed: list[Exception] = []

    async def write() -> None:
        try:
            answered.add(await deck.enqueue())
        except Exception as error:
            failed.append(error)

    for _ in range(10):
        tasks = [asyncio.create_task(write()) for _ in range(20)]
        await asyncio.to_thread(end_all, admin)
        await asyncio.gather(*tasks)
    assert all(isinstance(error, DatabaseUnavailable) for error in failed), failed[:3]
    await enqueued(deck)
    stored = {row["id"] for row in await deck.rows(runs)}
    assert answered <= stored
    assert {row["run_id"] for row in await deck.rows(run_events)} == stored
    # What became of a commit without an answer may still be looked up.
    async with asyncio.timeout(5):
        while deck.database.checked_out():
            await asyncio.sleep(0)


async def test_more_readers_than_connections(deck: Deck) -> None:
    """Two hundred reads at once over a small pool wait for each other and are all answered."""
    await deck.enqueue()
    answers = await asyncio.gather(*(deck.database.read(counts, deck.scope) for _ in range(200)))
    assert answers == [{"pending": 1}] * 200


@pytest.mark.parametrize(
    "change",
    [
        {"path": "/no_such_database"},
        {"netloc": "nobody_of_that_name@"},
        {"query": "host=/no/such/folder"},
        {"netloc": "postgres@127.0.0.1:1", "query": ""},
    ],
    ids=["database", "role", "socket", "port"],
)
async def test_a_server_that_cannot_be_had(postgres_server: PostgresServer, change: dict[str, str]) -> None:
    """A wrong database, role or address is DatabaseUnavailable, for opening and for upgrading, and says why."""
    url = urlsplit(postgres_server.url)._replace(**change).geturl()
    database = database_of(url)
    with pytest.raises(DatabaseUnavailable, match=r"cannot be reached: .+"):
        await database.open()
    await database.close()
    with pytest.raises(DatabaseUnavailable, match=r"cannot be reached: .+"):
        await upgrade(url)


@pytest.mark.parametrize(
    "query", ["sslmode=prefer", "application_name=mine", "sslmode=allow&application_name=mine"]
)
async def test_a_url_with_parameters(database_url: str, query: str) -> None:
    """Parameters mean what they mean to every PostgreSQL program: for reads, writes, LISTEN and the upgrade alike."""
    url = f"{database_url}{'&' if '?' in database_url else '?'}{query}"
    await upgrade(url)
    async with opened(url) as database:
        await team_of(database, "acme")
        shown = await database.read(lambda conn: conn.exec_driver_sql("SHOW application_name").scalar())
        assert shown == ("mine" if "mine" in query else "jobdeck")
        with psycopg.connect(database_url, autocommit=True) as admin:
            listening = f"SELECT count(*) FROM pg_stat_activity WHERE {_OTHERS} AND query LIKE 'LISTEN%'"
            assert admin.execute(listening).fetchone() == (1,)
