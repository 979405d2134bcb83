"""jobdeck as its users run it: a configuration file, a database, producers by the client, workers by the CLI."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import psycopg

from bench.payload import payload
from bench.process import Program, answer, environment
from bench.room import Room
from jobdeck.bootstrap import open_client, open_database, upgrade_database
from jobdeck.client import Client
from jobdeck.ids import new_id
from jobdeck.limits import DEFAULT_PROJECT, DEFAULT_TEAM
from jobdeck.settings import Settings, load_settings
from jobdeck.store import scopes
from tests.postgres import create_database, drop_database

Kind = Literal["sqlite", "postgresql"]
KINDS: tuple[Kind, ...] = ("sqlite", "postgresql")
_BATCH = 1_000
SHOWN = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}

# By what is kept for the live part only: to look through a million ended runs for it would take seconds of the drain.
_UNFINISHED = """
SELECT (SELECT count(*) FROM runs WHERE status = 'pending') + (SELECT count(*) FROM leases)
"""
_LIVE_WORKERS = "SELECT count(*) FROM workers WHERE state = 'live'"


class _Connection(Protocol):
    def execute(self, statement: str, /) -> Any: ...


class Deck:
    """One jobdeck with a database of its own; made by `new_deck`."""

    def __init__(self, kind: Kind, folder: Path, url: str | None) -> None:
        self.kind = kind
        self.folder = folder
        self.url = url
        self._config = folder / "jobdeck.toml"
        self._config.write_text(_configuration(folder, url))
        self._config.chmod(0o600)
        self._conn: _Connection | None = None

    @property
    def settings(self) -> Settings:
        """As every process of it reads them."""
        return load_settings(self._config)

    def worker(self, in_flight: int) -> Program:
        """`jobdeck runner`, everything else at its defaults."""
        command = [sys.executable, "-m", "jobdeck", "runner", "--config", str(self._config)]
        return Program([*command, "--concurrency", str(in_flight)], self.environment())

    def producer(self, *arguments: object) -> Any:
        """What `bench.producer` answers; it is a process of its own and uses jobdeck's client."""
        return self._answer("producer", *arguments)

    def reader(self, calls: int) -> Any:
        """What `bench.reader` answers; it is a process of its own and uses jobdeck's client."""
        return self._answer("reader", calls)

    def _answer(self, module: str, *arguments: object) -> Any:
        command = [sys.executable, "-m", f"bench.{module}", str(self._config), *map(str, arguments)]
        return answer(Program(command, self.environment()))

    def environment(self) -> dict[str, str]:
        """Nothing of whoever starts the benchmark."""
        # Short, because the path of a Unix socket has at most 107 bytes.
        runtime = self.folder / "r"
        runtime.mkdir(mode=0o700, exist_ok=True)
        return environment(XDG_RUNTIME_DIR=str(runtime), XDG_CONFIG_HOME=str(self.folder / "none"))

    def enqueue(
        self,
        count: int,
        job_type: str = "bench_noop",
        params: Mapping[str, object] | None = None,
        *,
        team: str = DEFAULT_TEAM,
        delay: timedelta | None = None,
    ) -> None:
        """Make so many runs, not measured: by a client in this process."""

        async def make(client: Client) -> None:
            for start in range(0, count, _BATCH):
                batch = [payload(**(params or {})) for _ in range(min(_BATCH, count - start))]
                await client.runs.trigger_many(job_type, batch, delay=delay)

        self.by_client(make, team)

    def release(self) -> None:
        """Make all waiting runs due at once, and one more, which wakes the workers."""

        async def wake(client: Client) -> None:
            self.connection.execute("UPDATE runs SET due_at = created_at WHERE status = 'pending'")
            await client.runs.enqueue("bench_noop", payload())

        self.by_client(wake)

    def by_client(self, act: Callable[[Client], Awaitable[None]], team: str = DEFAULT_TEAM) -> None:
        """Do something with a client in this process."""

        async def run() -> None:
            async with open_client(self.settings.model_copy(update={"team": team})) as client:
                await act(client)

        # Where the processes of a SQLite file meet.
        name = "XDG_RUNTIME_DIR"
        before = os.environ.get(name)
        os.environ[name] = self.environment()[name]
        try:
            asyncio.run(run())
        finally:
            del os.environ[name]
            if before is not None:
                os.environ[name] = before

    # -- what the database says, read past jobdeck ------------------------------------------------------------------

    def ask(self, statement: str) -> Any:
        """The first value of the first row."""
        return self.connection.execute(statement).fetchone()[0]

    @property
    def connection(self) -> _Connection:
        """A connection of the one who measures."""
        if self._conn is None:
            if self.url is None:
                self._conn = sqlite3.connect(self.database_file, isolation_level=None, timeout=30)
            else:
                self._conn = psycopg.connect(self.url, autocommit=True)
        return self._conn

    @property
    def database_file(self) -> Path:
        """The embedded database."""
        return self.folder / "jobdeck.db"

    def has_ended(self) -> bool:
        """Whether every run is in a final status."""
        return not self.ask(_UNFINISHED)

    def has_workers(self, count: int) -> bool:
        """Whether so many workers have registered."""
        return bool(self.ask(_LIVE_WORKERS) >= count)

    def close(self) -> None:
        """Let go of the database."""
        if self._conn is not None:
            with closing(self._conn):  # type: ignore[type-var]  # both drivers close
                self._conn = None


def _configuration(folder: Path, url: str | None) -> str:
    lines = [f'data_dir = "{folder}"', 'handlers = ["bench.handlers"]']
    return "\n".join([*lines, *([f'database_url = "{url}"'] if url else [])]) + "\n"


@contextmanager
def new_deck(room: Room, kind: Kind, teams: Sequence[str] = ()) -> Iterator[Deck]:
    """An empty jobdeck, upgraded; `teams` are made beside the default one. Its database is gone at the end."""
    template = room.keep(f"template {kind}", partial(_template, room, kind))
    with _deck(room, kind, template) as deck:
        if teams:
            asyncio.run(_make_scopes(deck.settings, teams))
        yield deck


@contextmanager
def _template(room: Room, kind: Kind) -> Iterator[Deck]:
    """A deck to be copied: to upgrade each one anew would take longer than to measure it."""
    with _deck(room, kind) as deck:
        asyncio.run(upgrade_database(deck.settings))
        asyncio.run(_make_scopes(deck.settings, [deck.settings.team]))
        yield deck


@contextmanager
def _deck(room: Room, kind: Kind, template: Deck | None = None) -> Iterator[Deck]:
    folder = room.new_folder()
    if kind == "sqlite":
        deck = Deck(kind, folder, None)
        if template is not None:
            shutil.copyfile(template.database_file, deck.database_file)
    else:
        deck = Deck(kind, folder, create_database(room.server, template.url if template else None))
    try:
        yield deck
    finally:
        deck.close()
        if deck.url is not None:
            drop_database(room.server, deck.url)


async def _make_scopes(settings: Settings, slugs: Sequence[str]) -> None:
    """Teams with one project each."""
    async with open_database(settings) as database:
        for slug in slugs:
            team = await database.write(
                scopes.create_team, scopes.NewTeam(new_id(), slug, slug, existing_ok=True)
            )
            project = scopes.NewProject(new_id(), team.id, DEFAULT_PROJECT, "Default", existing_ok=True)
            await database.write(scopes.create_project, project)
