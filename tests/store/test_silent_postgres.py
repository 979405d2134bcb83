"""A PostgreSQL that neither answers nor refuses: nobody waits for it longer than a bound, and closing neither."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator

import asyncpg
import psycopg
import pytest
from sqlalchemy import text

from jobdeck.errors import DatabaseUnavailable
from jobdeck.store.database import Database
from jobdeck.store.open import database_of
from jobdeck.store.postgres import session as postgres_session
from jobdeck.store.schema import runs
from tests.databases import opened
from tests.faults.proxy import Proxy, proxy_before
from tests.store.deck import Deck, team_of
from tests.store.rival import Rival

pytestmark = pytest.mark.parametrize("database_kind", ["postgresql"])

_COMMAND = 1.0
# What a loaded machine may take longer.
_SLACK = 8.0


@pytest.fixture
def proxied(database_url: str) -> Iterator[tuple[Proxy, str]]:
    with proxy_before(database_url) as found:
        yield found


@pytest.fixture
def proxy(proxied: tuple[Proxy, str]) -> Proxy:
    return proxied[0]


@pytest.fixture
async def deck(proxied: tuple[Proxy, str]) -> AsyncIterator[Deck]:
    """A team on a database behind a proxy, whose commands may take a second."""
    async with opened(proxied[1], command_timeout=_COMMAND) as database:
        yield await team_of(database, "acme")


async def test_a_write_and_a_read_give_up(deck: Deck, proxy: Proxy) -> None:
    """Each says after its time that there was no answer; when the server is back the next ones work."""
    first = await deck.enqueue()
    proxy.fall_silent()
    begun = time.monotonic()
    ended = await asyncio.gather(deck.enqueue(), deck.rows(runs), deck.rows(runs), return_exceptions=True)
    assert {type(end) for end in ended} == {DatabaseUnavailable}
    # The second read found no idle connection and could not make one.
    assert [str(end) for end in ended] == [
        "the database has not answered for 1.5 s",
        "the database has not answered for 1.5 s",
        "the database cannot be reached: it does not answer",
    ]
    assert time.monotonic() - begun < 10 + _SLACK
    proxy.mend()
    second = await deck.enqueue()
    assert [row["id"] for row in await deck.rows(runs)] == [first, second]


async def test_closing_does_not_wait_for_an_answer(proxied: tuple[Proxy, str]) -> None:
    """With writes and reads under way: each fails, and `close` comes back although each could wait for a minute."""
    proxy, url = proxied
    database = database_of(url, command_timeout=60.0)
    await database.open()
    deck = await team_of(database, "acme")
    await deck.enqueue()
    proxy.fall_silent()
    waiting = [asyncio.create_task(deck.enqueue()) for _ in range(5)]
    reading = asyncio.create_task(deck.rows(runs))
    while not database.checked_out():
        await asyncio.sleep(0)
    begun = time.monotonic()
    await database.close()
    assert time.monotonic() - begun < 3 + _SLACK
    ended = await asyncio.gather(*waiting, reading, return_exceptions=True)
    assert {type(end) for end in ended} == {DatabaseUnavailable}, ended
    assert database.checked_out() == 0


async def test_idle_connections_do_not_hold_up_closing(proxied: tuple[Proxy, str]) -> None:
    """Nothing is under way: the server is not told good-bye for longer than a moment."""
    proxy, url = proxied
    database = database_of(url)
    await database.open()
    await (await team_of(database, "acme")).enqueue()
    proxy.fall_silent()
    begun = time.monotonic()
    await database.close()
    assert time.monotonic() - begun < 3 + _SLACK


async def test_a_lock_is_not_waited_for_for_ever(deck: Deck, database_url: str) -> None:
    """The server itself ends a command that takes too long; the session stays, and nothing of it is stored."""
    run = await deck.started()
    with Rival(database_url) as rival:
        rival.lock_run(run.id)
        with pytest.raises(DatabaseUnavailable, match="statement timeout"):
            await deck.finish(run)
    ended = await deck.finish(run)
    assert ended.run_id == run.id


async def test_a_vanished_client_holds_no_locks(deck: Deck, proxy: Proxy, database_url: str) -> None:
    """The client is cut off in the middle of a transaction, without a word: the server ends it, its locks are free."""
    run = await deck.started()
    with Rival(database_url) as rival:
        rival.lock_run(run.id)
        cancelling = asyncio.create_task(deck.cancel(run.id))
        await rival.until_waited_for()
        proxy.fall_silent()
        rival.commit()
    with pytest.raises(DatabaseUnavailable):
        await cancelling
    with psycopg.connect(database_url) as other:
        other.execute("SET lock_timeout = '20s'")
        other.execute("SELECT 1 FROM runs WHERE id = %s FOR UPDATE", [run.id])
        other.execute("SELECT 1 FROM leases WHERE run_id = %s FOR UPDATE", [run.id])


async def test_both_sides_look_for_each_other(deck: Deck, proxied: tuple[Proxy, str]) -> None:
    """Client and server ask over an idle connection whether the other is there."""
    found = await deck.database.read(
        lambda conn: [
            conn.execute(text(f"SHOW {name}")).scalar_one()
            for name in ("tcp_keepalives_idle", "statement_timeout", "idle_in_transaction_session_timeout")
        ]
    )
    # The server's end is a Unix socket here, which knows no keep-alive.
    assert found == ["0", "1s", "1s"]
    session = await postgres_session.open_session(
        proxied[1], connect_timeout=10, command_timeout=1, settings={}, wishes={}
    )
    sock = session._transport.get_extra_info("socket")
    try:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
    finally:
        await session.close()


async def test_a_pooler_that_refuses_settings(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pooler that knows none of the server's settings is asked again without them."""
    asked: list[dict[str, str]] = []
    connect = asyncpg.connect

    async def picky(dsn: str, **options: object) -> object:
        settings = options["server_settings"]
        assert isinstance(settings, dict)
        asked.append(settings)
        if "statement_timeout" in settings:
            raise asyncpg.ProtocolViolationError("unsupported startup parameter: statement_timeout")
        return await connect(dsn, **options)

    monkeypatch.setattr(asyncpg, "connect", picky)
    url = database.url  # type: ignore[attr-defined]
    session = await postgres_session.open_session(
        url.set(drivername="postgresql").render_as_string(hide_password=False),
        connect_timeout=10,
        command_timeout=1,
        settings={"application_name": "jobdeck"},
        wishes={"plan_cache_mode": "force_generic_plan"},
    )
    await session.close()
    assert [len(settings) for settings in asked] == [8, 1]
