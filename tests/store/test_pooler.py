"""PostgreSQL behind a connection pooler: in transaction mode it is noticed and named, and everything still works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from jobdeck.doctor import examine
from jobdeck.settings import load_settings
from jobdeck.states import Status
from jobdeck.store.claim import ClaimedRun
from jobdeck.store.open import require_head, revision_of, upgrade
from jobdeck.store.postgres import notifications
from jobdeck.store.postgres.notifications import UNHEARD
from jobdeck.store.postgres.pooler import BEHIND_POOLER, _change_backends
from tests.databases import opened
from tests.pooler import pooled
from tests.postgres import PostgresServer, create_database, drop_database
from tests.store.deck import Deck, team_of

pytestmark = pytest.mark.parametrize("database_kind", ["postgresql"])
RUNS = 120


@pytest.mark.parametrize("size", [1, 2, 5])
async def test_transaction_mode_is_noticed(database_url: str, size: int) -> None:
    """However many backends the pooler has; one that has a single one makes the second look wait, which tells too."""
    with pooled(database_url, size=size) as pooler:
        async with opened(pooler.url) as database:
            assert database.deafness is BEHIND_POOLER


class Seen:
    """A connection that has these backends, one after the other; in a transaction, one for all of it."""

    def __init__(self, *backends: int) -> None:
        self._backends = list(backends)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        yield

    async def fetchval(self, _query: str) -> int:
        return self._backends.pop(0)


@pytest.mark.parametrize(("later", "is_pooled"), [(7, True), (1, False)])
async def test_backends_that_are_the_same_by_chance(database_kind: str, later: int, is_pooled: bool) -> None:
    """Where others take backends in between, two connections may be given theirs again: it is looked at again."""
    first, second = Seen(1, 1, later, 1), Seen(*[2] * 8)
    assert await _change_backends(first, second, 1) is is_pooled


async def test_a_server_of_its_own_is_no_pooler(database_url: str) -> None:
    """Connected directly nothing is wrong."""
    async with opened(database_url) as database:
        assert database.deafness is None


async def test_session_mode_is_as_good_as_direct(database_url: str) -> None:
    """A pooler that keeps a backend for a client passes notifications on: nothing is said, hints come."""
    with pooled(database_url, size=20, session=True, drops_notifications=False) as pooler:
        async with opened(pooler.url) as database:
            assert database.deafness is None


async def test_notifications_that_do_not_come_are_noticed(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A LISTEN that was accepted and hears nothing is no LISTEN: it is tried again, and said until it hears."""
    monkeypatch.setattr(notifications, "_CHECK_TIMEOUT", 0.3)
    with pooled(database_url, size=20, session=True) as pooler:
        async with opened(pooler.url) as database:
            assert database.deafness is UNHEARD
            pooler.drops_notifications = False
            async with asyncio.timeout(30):
                while database.deafness is not None:
                    await asyncio.sleep(0.05)


async def test_two_workers_share_the_work_through_a_pooler(database_url: str) -> None:
    """Enqueue, claim, finish and list at once over changing backends: every run ends once, no statement is missed."""
    with pooled(database_url, size=4) as pooler:
        async with opened(pooler.url) as one, opened(pooler.url) as other:
            first = await team_of(one, "acme")
            decks = [first, Deck(other, first.scope, first.project)]
            await asyncio.gather(*(decks[n % 2].enqueue() for n in range(RUNS)))
            done = await asyncio.gather(*(_work(deck) for deck in decks for _ in range(3)))
            ids = [run.id for part in done for run in part]
            assert len(ids) == len(set(ids)) == RUNS
            found = await decks[0].page(limit=RUNS + 1)
            assert [run.status for run in found] == [Status.COMPLETED] * RUNS


async def _work(deck: Deck) -> list[ClaimedRun]:
    done: list[ClaimedRun] = []
    while taken := await deck.claim(limit=7):
        await asyncio.gather(*(deck.finish(run) for run in taken))
        done += taken
    return done


async def test_no_backend_keeps_a_prepared_statement(database_url: str) -> None:
    """Named ones would be met by the next client, or grow without end on backends that live for days."""
    with pooled(database_url, size=1) as pooler, psycopg.connect(pooler.url, autocommit=True) as stranger:
        async with opened(pooler.url) as database:
            deck = await team_of(database, "acme")
            await deck.finish(await deck.started())
            # The one backend there is, now in the hands of another client; hints may still be on their way to it.
            for table in ("pg_prepared_statements", "pg_listening_channels()"):
                found = await asyncio.to_thread(stranger.execute, f"SELECT count(*) FROM {table}")
                assert found.fetchone() == (0,)


async def test_an_upgrade_goes_through_a_pooler(database_kind: str, postgres_server: PostgresServer) -> None:
    """It is one transaction, so it needs nothing more."""
    assert database_kind == "postgresql"
    url = create_database(postgres_server)
    with pooled(url) as pooler:
        await upgrade(pooler.url)
        async with opened(pooler.url) as database:
            await require_head(database)
            assert (await revision_of(database)).ok
    drop_database(postgres_server, url)


async def test_the_doctor_names_it(database_url: str, tmp_path: Path) -> None:
    """A warning with what it means and what mends it; connected directly all is well."""
    for url, state in ((database_url, "ok"), ("", "warn")):
        with pooled(database_url) as pooler:
            settings = load_settings(overrides={"database_url": url or pooler.url, "data_dir": tmp_path})
            found = {finding.name: finding for finding in await examine(settings)}
        assert found["hints"].state == state
    assert "connection pooler in transaction mode" in found["hints"].says
    assert found["hints"].mend == "set the pooler to session mode, or connect to PostgreSQL directly"
