"""A peer seen from outside: its storage, its commands, and how its storage says that all jobs have ended."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from bench.drain import Drained, Load, drain
from bench.process import Program, answer, environment
from bench.room import Room
from tests.postgres import create_database, drop_database

_HUEY_CONSUMER = (
    "-m",
    "huey.bin.huey_consumer",
    "bench.peers.huey_sqlite.huey",
    "-q",
    "-k",
    "thread",
    "-w",
    "1",
)
# Delay, longest delay and back-off: always 10 ms. Its default of 100 ms would leave it far behind in pick-up.
_HUEY_POLLING = ("-d", "0.01", "-m", "0.01", "-b", "1.0")


@dataclass(frozen=True, slots=True)
class Kind:
    """What is known of a peer in advance."""

    name: str
    module: str
    count_ended: str
    on_server: bool
    consumer: Sequence[str] = ()
    """Its own program; without one its script is the worker."""


HUEY = Kind(
    "huey-sqlite",
    "bench.peers.huey_sqlite",
    "SELECT count(*) FROM kv",
    on_server=False,
    consumer=(*_HUEY_CONSUMER, *_HUEY_POLLING),
)
PGQUEUER = Kind(
    "pgqueuer",
    "bench.peers.pgqueuer_postgres",
    "SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'",
    on_server=True,
)
PROCRASTINATE = Kind(
    "procrastinate",
    "bench.peers.procrastinate_postgres",
    "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'",
    on_server=True,
)


class Peer:
    """A peer with a storage of its own; made by `new_peer`."""

    def __init__(self, kind: Kind, python: Path, folder: Path, storage: str) -> None:
        self._kind = kind
        self._python = str(python)
        self._folder = folder
        self._storage = storage

    def enqueue(self, how: str, count: int) -> float:
        """Seconds it took: `one` by one or in `bulk`."""
        return float(self._answer(how, str(count)))

    def set_up(self) -> None:
        """Make its tables."""
        self._answer("set_up")

    def drain(self, count: int) -> Drained:
        """Let its worker work on what was enqueued."""
        connection: Any = (
            psycopg.connect(self._storage, autocommit=True)
            if self._kind.on_server
            else sqlite3.connect(self._storage, isolation_level=None)
        )
        with closing(connection):
            load = Load(count, lambda: connection.execute(self._kind.count_ended).fetchone()[0] >= count)
            return drain([self._worker()], load, self._folder)

    def _worker(self) -> Program:
        command = self._kind.consumer or ("-m", self._kind.module, "work")
        return self._program(command)

    def _answer(self, *arguments: str) -> Any:
        return answer(self._program(("-m", self._kind.module, *arguments)))

    def _program(self, command: Sequence[str]) -> Program:
        variables = environment(BENCH_STORAGE=self._storage, BENCH_MARKS=str(self._folder / "marks"))
        return Program([self._python, *command], variables)


@contextmanager
def new_peer(room: Room, kind: Kind) -> Iterator[Peer]:
    """A peer with an empty storage, on the same disk or the same server as jobdeck; gone at the end."""
    folder = room.new_folder()
    storage = create_database(room.server) if kind.on_server else str(folder / "jobs.db")
    try:
        peer = Peer(kind, room.peers, folder, storage)
        peer.set_up()
        yield peer
    finally:
        if kind.on_server:
            drop_database(room.server, storage)
