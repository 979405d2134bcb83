"""Hints between processes: a commit here wakes a listener there. Everything is awaited by event, nothing by time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import asyncpg
import psycopg
import pytest

from jobdeck.store.changes import Cancel, cancel
from jobdeck.store.database import Database
from jobdeck.store.postgres import notifications
from jobdeck.store.schema import workers
from jobdeck.store.sqlite import datagrams
from jobdeck.store.transaction import ALL_HINTS, Hint, Rank, Tx, verb
from tests.databases import opened
from tests.store.clients import client_of
from tests.store.deck import Deck, team_of

PATIENCE = 20.0
ALL = ALL_HINTS


class Ear:
    """Hears the hints of a database on the loop of the test."""

    def __init__(self, database: Database) -> None:
        self._heard: asyncio.Queue[Hint] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._stop = database.signals.listen(self._hear)

    def _hear(self, hint: Hint) -> None:
        self._loop.call_soon_threadsafe(self._heard.put_nowait, hint)

    async def until(self, wanted: Hint) -> None:
        """Return once hints that cover `wanted` have been heard."""
        seen = Hint.NONE
        async with asyncio.timeout(PATIENCE):
            while wanted not in seen:
                seen |= await self._heard.get()

    def taken(self) -> Hint:
        """What was heard since, without waiting."""
        seen = Hint.NONE
        while not self._heard.empty():
            seen |= self._heard.get_nowait()
        return seen

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_about: object) -> None:
        self._stop()


@asynccontextmanager
async def neighbour(url: str) -> AsyncIterator[tuple[Database, Ear]]:
    """Another database object on the same database, as another process has it, and an ear at it."""
    async with opened(url) as database:
        # A server's LISTEN hints once by itself when it stands; that is over before the test begins.
        with Ear(database) as ear:
            await say(database)
            await ear.until(ALL)
            ear.taken()
            yield database, ear


@verb(Rank.CHANGE)
def shout(tx: Tx, items: Sequence[Hint]) -> Sequence[Hint]:
    """Hint at everything that is asked for."""
    for item in items:
        tx.hint(item)
    return items


async def say(database: Database, hint: Hint = ALL) -> None:
    await database.write(shout, hint)


async def test_a_commit_is_heard_here_and_there(deck: Deck, database_url: str) -> None:
    """What is enqueued over one connection is heard by listeners of its own object and of another one."""
    async with neighbour(database_url) as (_, there):
        with Ear(deck.database) as here:
            await deck.enqueue()
            await here.until(Hint.WORK | Hint.CHANGE)
            await there.until(Hint.WORK | Hint.CHANGE)


async def test_hints_go_both_ways(deck: Deck, database_url: str) -> None:
    """The neighbour's commits are heard here as well."""
    async with neighbour(database_url) as (database, _):
        with Ear(deck.database) as here:
            await say(database, Hint.CANCEL)
            await here.until(Hint.CANCEL)


async def test_a_hint_says_what_may_have_changed(deck: Deck, database_url: str) -> None:
    """A cancel of a running run hints at CANCEL; a run that is due later is no WORK; a claim is a CHANGE."""
    claimed = await deck.started()
    async with neighbour(database_url) as (_, there):
        await deck.enqueue(delay=timedelta(hours=1))
        await deck.database.write(cancel, Cancel(deck.scope.team_id, claimed.id, "ada", None))
        await there.until(Hint.CANCEL)
        assert Hint.WORK not in there.taken()
        await deck.finish(claimed)
        await there.until(Hint.CHANGE)


async def test_only_notifications_are_mail(deck: Deck, database_url: str) -> None:
    """Senders are woken by the end of a run that somebody is to be told of, and not by every new run."""
    client = client_of(deck)
    async with neighbour(database_url) as (_, there):
        run = await client.runs.trigger("sync", callback_url="https://hooks.example.com/ended")
        await there.until(Hint.WORK)
        assert Hint.MAIL not in there.taken()
        (claimed,) = await deck.claim(1)
        assert claimed.id == run.id
        await deck.finish(claimed)
        await there.until(Hint.MAIL)
    client.close()


async def test_what_fails_is_not_heard(deck: Deck, database_url: str) -> None:
    """A transaction that is undone tells nobody."""
    async with neighbour(database_url) as (_, there):
        with pytest.raises(Exception, match=r"(?i)check"):
            await deck.enqueue(priority=11)
        await say(deck.database, Hint.CANCEL)
        await there.until(Hint.CANCEL)
        assert Hint.WORK not in there.taken()


async def test_a_listener_that_stopped_hears_nothing(deck: Deck) -> None:
    """After its end a listener is not called any more; others are."""
    with Ear(deck.database) as staying:
        with Ear(deck.database) as leaving:
            await say(deck.database)
            await leaving.until(Hint.WORK)
        leaving.taken()
        staying.taken()
        await say(deck.database)
        await staying.until(Hint.WORK)
        assert leaving.taken() is Hint.NONE


def sockets(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_socket()}


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_a_socket_nobody_answers_on_is_removed(database_url: str, runtime_folder: Path) -> None:
    """What a killed process left behind is removed at the next commit; the living are heard, and tidy up."""
    before = sockets(runtime_folder)
    async with opened(database_url) as database:
        (own,) = sockets(runtime_folder) - before
        dead = own.with_name("dead")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as left_over:
            left_over.bind(str(dead))
        stranger = own.with_name("no-socket")
        stranger.write_text("")
        async with neighbour(database_url) as (_, there):
            await team_of(database, "acme")
            await say(database, Hint.WORK)
            await there.until(Hint.WORK)
            assert not dead.exists()
            assert len(sockets(runtime_folder) - before) == 2
    assert sockets(runtime_folder) == before


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_a_neighbour_that_does_not_listen_blocks_nobody(
    database_url: str, runtime_folder: Path
) -> None:
    """A process that is stopped reads no hints: writers go on when its buffer is full."""
    # Workers that other tests have killed leave their sockets behind.
    before = sockets(runtime_folder)
    async with opened(database_url) as database:
        (folder,) = {path.parent for path in sockets(runtime_folder) - before}
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
            deaf.bind(str(folder / "deaf"))
            async with asyncio.timeout(PATIENCE):
                for _ in range(600):
                    await say(database, Hint.CHANGE)
            assert (folder / "deaf").exists()
        # The hints of the last commit may have found nobody there, and have removed it.
        (folder / "deaf").unlink(missing_ok=True)


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_a_process_without_a_socket_says_so(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the runtime folder cannot be had it works without hints, and tells those who ask."""

    def refuse() -> Path:
        raise PermissionError("not this user's")

    async with opened(database_url) as database:
        assert database.deafness is None
    monkeypatch.setattr(datagrams, "runtime_folder", refuse)
    async with opened(database_url) as database:
        await team_of(database, "acme")
        assert database.deafness is datagrams.NO_SOCKET


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_closing_does_not_depend_on_the_name_of_the_socket(
    database_url: str, runtime_folder: Path
) -> None:
    """Where somebody tidied the runtime folder up, closing neither waits nor leaves a thread behind."""
    import threading

    async with opened(database_url) as database:
        for path in sockets(runtime_folder):
            path.unlink()
        await team_of(database, "acme")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("jobdeck")]


def end_listen(admin: psycopg.Connection[Any]) -> None:
    """Have the server end the one connection that listens."""
    ended = admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    ).fetchall()
    assert ended == [(True,)]


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_a_listen_that_was_cut_is_made_again(deck: Deck, database_url: str) -> None:
    """The server ends the connection that listens: it is made anew, hints once by itself, and hears again."""
    with Ear(deck.database) as here:
        with psycopg.connect(database_url, autocommit=True) as admin:
            end_listen(admin)
            await here.until(ALL)
            here.taken()
            admin.execute("SELECT pg_notify('jobdeck', '1')")
        await here.until(Hint.WORK)


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_a_listen_that_lost_its_channel_is_made_again(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that lives but listens to nothing any more, as behind a pooler, is noticed by the regular check."""
    made: list[Any] = []
    connect = asyncpg.connect

    async def note(*address: Any, **options: Any) -> Any:
        made.append(await connect(*address, **options))
        return made[-1]

    monkeypatch.setattr(notifications, "_CHECK_EVERY", 0.05)
    async with opened(database_url) as database:
        with Ear(database) as here:
            monkeypatch.setattr(asyncpg, "connect", note)
            with psycopg.connect(database_url, autocommit=True) as admin:
                end_listen(admin)
                await here.until(ALL)
                here.taken()
                await made[0].execute("UNLISTEN *")
                await here.until(ALL)
                here.taken()
                admin.execute("SELECT pg_notify('jobdeck', '1')")
            await here.until(Hint.WORK)


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_strange_notifications_are_ignored(deck: Deck, database_url: str) -> None:
    """Whoever else uses the channel cannot break the listener: what is no number is dropped, unknown bits too."""
    with Ear(deck.database) as here, psycopg.connect(database_url, autocommit=True) as admin:
        for payload in ("", "words", "-1x", "9" * 400, "1e3", str(1 << 40)):
            admin.execute("SELECT pg_notify('jobdeck', %s)", [payload])
        admin.execute("SELECT pg_notify('jobdeck', '2')")
        await here.until(Hint.CANCEL)
        assert await deck.rows(workers) == []
