"""Runs made inside a transaction of the caller's own: there if and only if it commits. Over every driver."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import (
    Column,
    Connection,
    Integer,
    MetaData,
    Table,
    create_engine,
    insert,
    make_url,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from jobdeck.client import Client, guard
from jobdeck.errors import (
    AlreadyActive,
    ConfigError,
    Forbidden,
    IdempotencyMismatch,
    NotFound,
    ValidationError,
)
from jobdeck.ids import new_id
from jobdeck.people import Role
from jobdeck.states import Condition, Status
from jobdeck.store.enqueue import enqueue
from jobdeck.store.schema import run_counts, run_keys, runs
from jobdeck.store.transaction import Hint
from tests.store.audits import acts
from tests.store.clients import client_of
from tests.store.deck import Deck, team_of
from tests.store.rival import Rival
from tests.store.test_hints import neighbour

orders = Table("orders", MetaData(), Column("id", Integer, primary_key=True))

DRIVERS = [
    ("sqlite", "sqlite+pysqlite"),
    ("sqlite", "sqlite+aiosqlite"),
    ("postgresql", "postgresql+psycopg"),
    ("postgresql", "postgresql+psycopg_async"),
    ("postgresql", "postgresql+asyncpg"),
]
over_each = pytest.mark.parametrize(("database_kind", "driver"), DRIVERS)
on_a_server = pytest.mark.parametrize(("database_kind", "driver"), DRIVERS[2:])
in_a_file = pytest.mark.parametrize(("database_kind", "driver"), DRIVERS[:2])
not_async = pytest.mark.parametrize(("database_kind", "driver"), [DRIVERS[0], DRIVERS[2]])


class Caller:
    """A program with an engine of its own. `transaction` runs a function in one of its transactions."""

    def __init__(self, url: str, driver: str, client: Client, **options: Any) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self.is_async = driver.endswith(("aiosqlite", "asyncpg", "_async"))
        parsed = make_url(url).set(drivername=driver.removesuffix("_async"))
        self.engine = None if self.is_async else create_engine(parsed, poolclass=NullPool, **options)
        self._async = create_async_engine(parsed, poolclass=NullPool, **options) if self.is_async else None

    async def transaction(self, work: Callable[[Connection], Any]) -> Any:
        """The result of `work`, committed; whatever it raises has rolled back."""
        if self._async is not None:
            async with self._async.begin() as conn:
                return await conn.run_sync(work)
        assert self.engine is not None
        engine = self.engine

        def run() -> Any:
            with engine.begin() as conn:
                return work(conn)

        return await asyncio.to_thread(run)

    def connected(self) -> AsyncConnection:
        """A connection of an async program, whose transaction begins by itself."""
        assert self._async is not None
        return self._async.connect()

    async def enqueue(self, **asked: Any) -> Callable[[Connection], UUID]:
        """A built run as a function that stores it."""
        new = await self._client.runs.build(asked.pop("job_type", "sync"), asked.pop("params", {}), **asked)
        return lambda conn: self._client.runs._store_in(conn, new, self._loop)

    async def close(self) -> None:
        if self.engine is not None:
            self.engine.dispose()
        if self._async is not None:
            await self._async.dispose()


@pytest.fixture
async def client(deck: Deck) -> AsyncIterator[Client]:
    """Ada's client."""
    made = client_of(deck)
    yield made
    made.close()


@pytest.fixture
async def caller(database_url: str, driver: str, client: Client) -> AsyncIterator[Caller]:
    """A program with a table of its own."""
    made = Caller(database_url, driver, client)
    await made.transaction(orders.create)
    yield made
    await made.transaction(orders.drop)
    await made.close()


class Undone(Exception):
    """What makes the caller roll back."""


async def kept(caller: Caller) -> int:
    return len(await caller.transaction(lambda conn: conn.execute(select(orders)).all()))


@over_each
async def test_both_or_nothing(caller: Caller, deck: Deck, client: Client) -> None:
    """The run and the caller's own row are there together after a commit, and neither after a rollback; also where the
    run is the first thing the transaction does."""
    store = await caller.enqueue(params={"source": "a"}, priority=2, tags={"order": "1"})

    def first(conn: Connection) -> UUID:
        run_id = store(conn)
        conn.execute(insert(orders).values(id=1))
        return run_id

    run_id = await caller.transaction(first)
    run = await client.runs.show(run_id)
    assert (run.status, run.params, run.priority, run.tags) == (
        Status.PENDING,
        {"source": "a"},
        2,
        {"order": "1"},
    )
    assert await kept(caller) == 1
    undone = await caller.enqueue()

    def broken(conn: Connection) -> None:
        undone(conn)
        conn.execute(insert(orders).values(id=2))
        raise Undone

    with pytest.raises(Undone):
        await caller.transaction(broken)
    assert [row["id"] for row in await deck.rows(runs)] == [run_id]
    assert await kept(caller) == 1
    assert await client.runs.counts() == {"pending": 1}


@over_each
async def test_two_in_one_transaction_are_run(caller: Caller, deck: Deck) -> None:
    """Several runs, which workers find as any others; and one that waits for another."""
    first = await caller.enqueue()
    other = await caller.enqueue(delay=timedelta(hours=1))
    ids: list[UUID] = []

    def both(conn: Connection) -> None:
        ids.extend((first(conn), other(conn)))

    await caller.transaction(both)
    assert [claimed.id for claimed in await deck.claim(5)] == [ids[0]]
    assert len(await deck.rows(runs)) == 2
    after = await caller.enqueue(after=[(ids[0], Condition.COMPLETED)])
    waiting = await caller.transaction(after)
    assert (await deck.show(waiting)).blocked == 1


@over_each
async def test_a_savepoint(caller: Caller, deck: Deck) -> None:
    """A run inside a savepoint that is rolled back is not there, those around it are."""
    outer, inner, last = [await caller.enqueue() for _ in range(3)]

    def work(conn: Connection) -> list[UUID]:
        ids = [outer(conn)]
        with conn.begin_nested() as savepoint:
            inner(conn)
            savepoint.rollback()
        return [*ids, last(conn)]

    ids = await caller.transaction(work)
    assert sorted(row["id"] for row in await deck.rows(runs)) == sorted(ids)
    assert sum(row["runs"] for row in await deck.rows(run_counts)) == 2


@over_each
async def test_an_error_leaves_the_transaction_usable(caller: Caller, deck: Deck, client: Client) -> None:
    """A refused run raises its typed error, and what the caller does besides is committed all the same."""
    await deck.enqueue(flight_key=(await client.runs.build("single")).flight_key, job_type="single")
    standing = await client.runs.enqueue("sync", {"source": "a"}, idempotency_key="k")
    busy = await caller.enqueue(job_type="single")
    again = await caller.enqueue(params={"source": "a"}, idempotency_key="k")
    other = await caller.enqueue(params={"source": "b"}, idempotency_key="k")
    missing = await caller.enqueue(after=[(new_id(), Condition.COMPLETED)])

    def work(conn: Connection) -> UUID:
        conn.execute(insert(orders).values(id=1))
        for store, error in ((busy, AlreadyActive), (other, IdempotencyMismatch), (missing, NotFound)):
            with pytest.raises(error):
                store(conn)
        conn.execute(insert(orders).values(id=2))
        return again(conn)

    assert await caller.transaction(work) == standing
    assert await kept(caller) == 2
    assert len(await deck.rows(runs)) == 2
    assert len(await deck.rows(run_keys)) == 1
    with pytest.raises(ValidationError):
        await caller.enqueue(params={"pages": 0})


@over_each
async def test_a_commit_wakes_the_workers(caller: Caller, database_url: str) -> None:
    """Listeners of other processes hear of the work by the commit, without a poll, and of a rollback nothing."""
    undone, done = await caller.enqueue(), await caller.enqueue()

    def broken(conn: Connection) -> None:
        undone(conn)
        raise Undone

    async with neighbour(database_url) as (_, ear):
        with pytest.raises(Undone):
            await caller.transaction(broken)
        await caller.transaction(lambda conn: conn.execute(insert(orders).values(id=1)))
        assert Hint.WORK not in ear.taken()
        await caller.transaction(done)
        await ear.until(Hint.WORK)


@not_async
async def test_a_rolled_back_connection_used_again(caller: Caller, database_url: str) -> None:
    """On one connection: what was undone is not told with the next transaction that commits."""
    undone, done = await caller.enqueue(), await caller.enqueue()

    def work() -> None:
        assert caller.engine is not None
        with caller.engine.connect() as conn:
            undone(conn)
            conn.rollback()
            conn.execute(insert(orders).values(id=1))
            conn.commit()
            done(conn)
            conn.commit()

    async with neighbour(database_url) as (_, ear):
        await asyncio.to_thread(work)
        await ear.until(Hint.WORK)
        assert Hint.WORK not in ear.taken()


@in_a_file
async def test_another_database(caller: Caller, driver: str, client: Client, tmp_path: Any) -> None:
    """A connection that leads elsewhere is refused with the reason, and stays usable."""
    elsewhere = Caller(f"sqlite:///{tmp_path / 'other.db'}", driver, client)
    store = await caller.enqueue()

    def work(conn: Connection) -> None:
        orders.create(conn)
        with pytest.raises(ConfigError, match="does not lead to the database"):
            store(conn)
        conn.execute(insert(orders).values(id=1))

    await elsewhere.transaction(work)
    assert await kept(elsewhere) == 1
    await elsewhere.close()


@on_a_server
async def test_two_at_once_under_one_key(
    caller: Caller, deck: Deck, client: Client, database_url: str
) -> None:
    """Somebody else is about to commit a run under the same key: it is waited for, and then it is in the way."""
    key = (await client.runs.build("single")).flight_key
    store = await caller.enqueue(job_type="single")

    def work(conn: Connection) -> None:
        conn.execute(insert(orders).values(id=1))
        with pytest.raises(AlreadyActive):
            store(conn)
        conn.execute(insert(orders).values(id=2))

    with Rival(database_url) as rival:
        assert isinstance(rival.run(enqueue, deck.new_run(job_type="single", flight_key=key)), UUID)
        waiting = asyncio.create_task(caller.transaction(work))
        await rival.until_waited_for()
        rival.commit()
        await waiting
    assert await kept(caller) == 2
    assert len(await deck.rows(runs)) == 1


@on_a_server
async def test_a_long_transaction_keeps_nobody_waiting(caller: Caller, deck: Deck) -> None:
    """While the caller's transaction stays open others enqueue, claim and finish: the counters have rows enough."""
    store = await caller.enqueue()
    stored, go_on = threading.Event(), threading.Event()

    def work(conn: Connection) -> None:
        store(conn)
        stored.set()
        assert go_on.wait(20)

    if caller.is_async:
        # One loop for both: its transaction is entered step by step.
        async with caller.connected() as conn:
            await conn.run_sync(store)
            await _live_beside(deck)
            await conn.commit()
    else:
        waiting = asyncio.create_task(caller.transaction(work))
        await asyncio.to_thread(stored.wait, 20)
        await _live_beside(deck)
        go_on.set()
        await waiting
    assert len(await deck.rows(runs)) == 51


async def _live_beside(deck: Deck) -> None:
    for _ in range(50):
        await deck.finish(await deck.started())


@on_a_server
async def test_a_connection_that_commits_by_itself(
    caller: Caller, database_url: str, driver: str, client: Client, deck: Deck
) -> None:
    """In AUTOCOMMIT there is no transaction to be part of: refused."""
    alone = Caller(database_url, driver, client, isolation_level="AUTOCOMMIT")
    with pytest.raises(ConfigError, match="commits every statement by itself"):
        await alone.transaction(await alone.enqueue())
    await alone.close()
    assert await deck.rows(runs) == []


@over_each
async def test_who_may_not_stores_nothing(caller: Caller, deck: Deck, client: Client) -> None:
    """A run that was built while its maker might is refused once they may not, and so is one of another team; the
    caller's transaction stays as it was."""
    new = await caller.enqueue()
    await client_of(deck, actor="boss").members.add("boss", Role.ADMIN)
    other = client_of(await team_of(deck.database, "rivals"), actor="boss")
    foreign = await other.runs.build("sync")
    loop = asyncio.get_running_loop()

    def work(conn: Connection) -> None:
        conn.execute(insert(orders).values(id=1))
        with pytest.raises(NotFound):
            new(conn)
        with pytest.raises(Forbidden, match="another team than acme"):
            client.runs._store_in(conn, foreign, loop)

    await caller.transaction(work)
    assert await kept(caller) == 1
    assert await deck.rows(runs) == []


@pytest.mark.parametrize(("database_kind", "driver"), [DRIVERS[1], DRIVERS[4]])
async def test_a_refusal_is_in_the_audit(caller: Caller, deck: Deck, client: Client) -> None:
    """As soon as whoever holds the database lets go of it; nobody waits for that inside the transaction."""
    boss = client_of(deck, actor="boss")
    await boss.members.add("boss", Role.ADMIN)
    await boss.members.add("ada", Role.VIEWER)
    async with caller.connected() as conn:
        await conn.execute(insert(orders).values(id=1))
        async with asyncio.timeout(5):
            with pytest.raises(Forbidden):
                await client.runs.enqueue_in(conn, "sync")
        await conn.commit()
    await asyncio.gather(*guard._stored_aside)
    assert [row for row in await acts(deck) if row[1] == "denied"] == [("run.enqueue", "denied", "forbidden")]
