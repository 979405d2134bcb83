"""jobdeck as its users run it: a configuration file, a database, producers by the client, workers by the CLI."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import psycopg

from bench.payload import payload
from bench.process import Program, answer, environment
from bench.room import Room
from jobdeck.bootstrap import make_scope, open_client, upgrade_database
from jobdeck.settings import Settings, load_settings
from tests.postgres import create_database, drop_database

Kind = Literal["sqlite", "postgresql"]
KINDS: tuple[Kind, ...] = ("sqlite", "postgresql")
SHOWN = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}

_UNFINISHED = """
SELECT count(*) FROM runs WHERE team_id IN (SELECT id FROM teams)
AND status IN ('awaiting_approval', 'pending', 'running')
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
        command = [sys.executable, "-m", "bench.producer", str(self._config), *map(str, arguments)]
        return answer(Program(command, self.environment()))

    def environment(self) -> dict[str, str]:
        """Nothing of whoever starts the benchmark."""
        # Short, because the path of a Unix socket has at most 107 bytes.
        runtime = self.folder / "r"
        runtime.mkdir(mode=0o700, exist_ok=True)
        return environment(XDG_RUNTIME_DIR=str(runtime), XDG_CONFIG_HOME=str(self.folder / "none"))

    def enqueue(self, count: int, job_type: str = "bench_noop", **params: object) -> None:
        """Make so many runs, due at once."""
        self.producer("bulk", count, "--job-type", job_type, *_options(params))

    def enqueue_for_later(self, count: int) -> None:
        """Make so many runs that wait for `release`."""
        self.producer("bulk", count, "--delay-s", 3_600)

    def release(self) -> None:
        """Make all waiting runs due at once, and one more, which wakes the workers."""
        before = os.environ.get("XDG_RUNTIME_DIR")
        os.environ["XDG_RUNTIME_DIR"] = self.environment()["XDG_RUNTIME_DIR"]
        try:
            asyncio.run(self._release())
        finally:
            os.environ.pop("XDG_RUNTIME_DIR")
            if before is not None:
                os.environ["XDG_RUNTIME_DIR"] = before

    async def _release(self) -> None:
        async with open_client(self.settings) as client:
            self.connection.execute("UPDATE runs SET due_at = created_at WHERE status = 'pending'")
            await client.runs.enqueue("bench_noop", payload())

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


def _options(params: dict[str, object]) -> list[str]:
    return [f"--param={name}={value}" for name, value in params.items()]


def _configuration(folder: Path, url: str | None) -> str:
    lines = [f'data_dir = "{folder}"', 'handlers = ["bench.handlers"]']
    return "\n".join([*lines, *([f'database_url = "{url}"'] if url else [])]) + "\n"


@contextmanager
def new_deck(room: Room, kind: Kind, teams: Sequence[str] = ()) -> Iterator[Deck]:
    """An empty jobdeck, upgraded; `teams` are made beside the default one. Its database is gone at the end."""
    url = create_database(room.server) if kind == "postgresql" else None
    deck = Deck(kind, room.new_folder(), url)
    try:
        asyncio.run(_prepare(deck.settings, teams))
        yield deck
    finally:
        deck.close()
        if url is not None:
            drop_database(room.server, url)


async def _prepare(settings: Settings, teams: Sequence[str]) -> None:
    await upgrade_database(settings)
    for team in (settings.team, *teams):
        await make_scope(settings.model_copy(update={"team": team}))
