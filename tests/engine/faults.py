"""A database with faults to switch on, and a real outage of a real one."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Concatenate, ParamSpec, TypeVar

import asyncpg
from sqlalchemy import Connection, make_url

from jobdeck.errors import DatabaseUnavailable, JobdeckError
from jobdeck.store.batch import Part, Results
from jobdeck.store.database import Database
from jobdeck.store.differences import Differences
from jobdeck.store.signals import Deafness, Signals
from jobdeck.store.transaction import I, R, Verb
from tests.engine.gate import Gate

P = ParamSpec("P")
T = TypeVar("T")
EVERYTHING = "*"


class FaultyDatabase:
    """A real database behind a door: `failing` names the verbs that it refuses, `hanging` those that get no answer."""

    def __init__(self, inner: Database, *, deaf: bool = False) -> None:
        self._inner = inner
        self.differences: Differences = inner.differences
        self.signals = Signals() if deaf else inner.signals
        self.failing: set[str] = set()
        self.hanging: dict[str, Gate] = {}
        self.breaking: dict[str, Exception] = {}
        """What verbs raise that is no trouble of a database."""
        self.calls: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._sent: set[asyncio.Future[None]] = set()

    @property
    def offset_us(self) -> int:
        return self._inner.offset_us

    @offset_us.setter
    def offset_us(self, value: int) -> None:
        self._inner.offset_us = value

    @property
    def deafness(self) -> Deafness | None:
        return self._inner.deafness

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def write(self, verb: Verb[I, R], item: I) -> R:
        await self._pass(verb.name)
        return await self._inner.write(verb, item)

    async def write_many(self, verb: Verb[I, R], items: Sequence[I]) -> list[R | JobdeckError]:
        await self._pass(verb.name)
        return await self._inner.write_many(verb, items)

    def submit(self, parts: Sequence[Part], done: Callable[[Results], None]) -> None:
        self._sent.add(task := asyncio.ensure_future(self._submit(parts, done)))
        task.add_done_callback(self._sent.discard)

    async def _submit(self, parts: Sequence[Part], done: Callable[[Results], None]) -> None:
        refused: dict[int, Exception] = {}
        for place, (verb, _items) in enumerate(parts):
            try:
                await self._pass(verb.name)
            except Exception as error:
                refused[place] = error
        passed = [part for place, part in enumerate(parts) if place not in refused]
        if not passed:
            done([[error] * len(parts[place][1]) for place, error in refused.items()])
            return

        def merge(results: Results) -> None:
            rest = iter(results)
            done(
                [
                    [refused[place]] * len(items) if place in refused else next(rest)
                    for place, (_, items) in enumerate(parts)
                ]
            )

        self._inner.submit(passed, merge)

    async def read(
        self, query: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        await self._pass("read")
        return await self._inner.read(query, *args, **kwargs)

    def now_of(self, conn: Connection) -> int:
        return self._inner.now_of(conn)

    def checked_out(self) -> int:
        return self._inner.checked_out()

    async def _pass(self, name: str) -> None:
        self.calls[name] += 1
        if gate := self.hanging.get(name):
            await gate.passed()
        if error := self.breaking.get(name):
            raise error
        if self.failing & {name, EVERYTHING}:
            self.refused[name] += 1
            raise DatabaseUnavailable("the test has pulled the plug")


@asynccontextmanager
async def outage(url: str) -> AsyncIterator[None]:
    """Inside the block nobody can commit: the SQLite file is locked, the PostgreSQL database lets nobody in."""
    if url.startswith("sqlite"):
        holder = sqlite3.connect(make_url(url).database or "", isolation_level=None, timeout=10)
        holder.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            holder.close()
        return
    admin = await asyncpg.connect(_dsn(url, "postgres"))
    name = make_url(url).database or ""
    try:
        await admin.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false')
        await admin.fetch("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        yield
    finally:
        await admin.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true')
        await admin.close()


def _dsn(url: str, database: str) -> str:
    return make_url(url).set(drivername="postgresql", database=database).render_as_string(hide_password=False)
