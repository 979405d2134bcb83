"""How fast are runs accepted? One by one, from a hundred tasks at once, and in bulk; each of them durable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from bench.deck import SHOWN, Kind, new_deck
from bench.limits.child import limit
from bench.peers.peer import HUEY, PGQUEUER, PROCRASTINATE, new_peer
from bench.peers.peer import Kind as PeerKind
from bench.results import Other, Row, others, times
from bench.room import Room
from tests.postgres import create_database, drop_database

_LIMIT_SECONDS = 1.0
_ONE, _CONCURRENT, _BULK = 1_500, 5_000, 20_000

Measures = dict[str, Callable[[], float]]


def answer(room: Room) -> list[Row]:
    """On both databases."""
    return sqlite(room) + postgres(room)


def sqlite(room: Room) -> list[Row]:
    """On one file, beside huey, the standard library and SQLAlchemy on aiosqlite."""
    stdlib, bulk = "stdlib sqlite3 one by one", "SQLAlchemy + aiosqlite, batches of 100"
    measures: Measures = {
        "one": partial(_ours, room, "sqlite", "one", _ONE),
        **({"huey-sqlite": partial(_theirs, room, HUEY, "one", 2 * _ONE)} if room.with_peers else {}),
        "concurrent": partial(_ours, room, "sqlite", "concurrent", _CONCURRENT),
        stdlib: partial(_sqlite_limit, room, "stdlib_sqlite", "enqueue", 1),
        "bulk 100": partial(_ours, room, "sqlite", "bulk", _BULK, 100),
        bulk: partial(_sqlite_limit, room, "aiosqlite_bulk", None, 100),
        "bulk 500": partial(_ours, room, "sqlite", "bulk", _BULK, 500),
    }
    found = room.rounds("enqueue SQLite", measures)
    huey = others(found, ("huey-sqlite", "peer"))
    one = huey + others(found, (stdlib, "bare"))
    many = others(found, (bulk, "bare"))
    concurrent = _row("sqlite", "from 100 tasks at once", found["concurrent"], one)
    by_100 = _row("sqlite", "in bulk, 100 at a time", found["bulk 100"], many)
    return [
        _row("sqlite", "one by one", found["one"], one),
        concurrent.held_to(*times(concurrent, "huey-sqlite", 2, "huey-sqlite one by one")),
        by_100.held_to(*times(by_100, bulk, 0.75)),
        _row("sqlite", "in bulk, 500 at a time", found["bulk 500"], many),
    ]


def postgres(room: Room) -> list[Row]:
    """On one server, beside pgqueuer, procrastinate and bare asyncpg."""

    def bare(batch: int) -> Callable[[], float]:
        return partial(_postgres_limit, room, batch)

    peers: Measures = {
        "pgqueuer, bulk": partial(_theirs, room, PGQUEUER, "bulk", _BULK),
        "procrastinate, bulk": partial(_theirs, room, PROCRASTINATE, "bulk", _BULK // 4),
        "pgqueuer": partial(_theirs, room, PGQUEUER, "one", _ONE // 2),
        "procrastinate": partial(_theirs, room, PROCRASTINATE, "one", _ONE // 3),
    }
    measures: Measures = {
        "bulk 500": partial(_ours, room, "postgresql", "bulk", _BULK, 500),
        **(peers if room.with_peers else {}),
        "one": partial(_ours, room, "postgresql", "one", _ONE // 2),
        "asyncpg one by one": bare(1),
        "concurrent": partial(_ours, room, "postgresql", "concurrent", _CONCURRENT),
        "asyncpg, batches of 500": bare(500),
    }
    found = room.rounds("enqueue PostgreSQL", measures)
    one = others(found, ("pgqueuer", "peer"), ("procrastinate", "peer"), ("asyncpg one by one", "bare"))
    many = others(
        found,
        ("pgqueuer, bulk", "peer"),
        ("procrastinate, bulk", "peer"),
        ("asyncpg, batches of 500", "bare"),
    )
    bulk = _row("postgresql", "in bulk, 500 at a time", found["bulk 500"], many)
    return [
        _row("postgresql", "one by one", found["one"], one),
        _row("postgresql", "from 100 tasks at once", found["concurrent"], one),
        bulk.held_to(*times(bulk, "pgqueuer, bulk", 1)),
    ]


def _ours(room: Room, kind: Kind, how: str, count: int, batch: int = 500) -> float:
    count = room.count(count)
    with new_deck(room, kind) as deck:
        seconds = deck.producer(how, count, "--batch", batch)
        stored = deck.ask("SELECT count(*) FROM runs")
    if stored != count:
        raise AssertionError(f"{count} runs were accepted, but {stored} are stored")
    return float(count / seconds)


def _theirs(room: Room, kind: PeerKind, how: str, count: int) -> float:
    count = room.count(count)
    with new_peer(room, kind) as peer:
        return count / peer.enqueue(how, count)


def _sqlite_limit(room: Room, module: str, what: str | None, batch: int) -> float:
    path = room.new_folder() / "jobs.db"
    return float(limit(module, *([what] if what else []), path, batch, room.seconds(_LIMIT_SECONDS)))


def _postgres_limit(room: Room, batch: int) -> float:
    url = create_database(room.server)
    try:
        return float(limit("asyncpg_postgres", "enqueue", url, batch, room.seconds(_LIMIT_SECONDS)))
    finally:
        drop_database(room.server, url)


def _row(kind: Kind, what: str, values: Sequence[float], beside: tuple[Other, ...]) -> Row:
    return Row(f"{SHOWN[kind]}: enqueue {what}", "runs/s", tuple(values), beside)
