"""A long history: some runs are really run, then copied inside the database with all that belongs to them.

So each copy has the params, attempts, events and log lines that jobdeck itself wrote for the run it is a copy of,
whatever the schema looks like. Half of the runs belong to the default team, the rest to the others.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, Protocol

from sqlalchemy import Column, Table

from bench.deck import Deck, Kind, new_deck
from bench.drain import Load, drain
from bench.payload import payload
from bench.room import Room
from jobdeck.client import Client
from jobdeck.store.schema import metadata

TYPES = 10
"""Job types of the copies: `history_0` to `history_9`."""
TEAMS = tuple(f"team-{number}" for number in range(1, 20))
RARE = 1_009
"""One run in so many has the queue `nightly`, and as many others have that category."""
_VARIED = ("team_id", "project_id", "job_type", "queue", "category")
# Per mille, so that a copy's outcome follows from three digits of its number.
_OUTCOMES = {"completed": 880, "failed": 88, "cancelled": 31, "dead": 1}
# Those of `bench_error` start twice.
_ORIGINAL_TYPES = {"bench_noop": 18, "bench_report": 2, "bench_discard": 5, "bench_error": 5}
_CHUNK = 50_000
_YEAR_US = 365 * 86_400 * 1_000_000
_SETTINGS = ("journal_mode=WAL", "synchronous=OFF", "foreign_keys=OFF", "cache_size=-262144")

_PLACES = """
CREATE TABLE bench_places AS
SELECT row_number() OVER (ORDER BY t.slug <> 'default', t.slug) - 1 AS place, t.id AS team_id, p.id AS project_id
FROM teams t JOIN projects p ON p.team_id = t.id
"""
_ORIGINALS = """
CREATE TABLE bench_originals AS
SELECT status, row_number() OVER (PARTITION BY status ORDER BY id) - 1 AS place, id, created_at,
    count(*) OVER (PARTITION BY status) AS alike
FROM runs
"""


class _Connection(Protocol):
    def execute(self, statement: str, /) -> Any: ...


def history(room: Room, kind: Kind, count: int) -> Deck:
    """A jobdeck with so many ended runs of the past year; made once for all questions."""
    return room.keep(f"history {kind} {count}", partial(_make, room, kind, count))


@contextmanager
def _make(room: Room, kind: Kind, count: int) -> Iterator[Deck]:
    with new_deck(room, kind, teams=TEAMS) as deck:
        room.say(f"making a history of {count:,} runs ({kind})")
        _run_originals(deck)
        if kind == "sqlite":
            _copy_on_sqlite(deck, count)
        else:
            _copy(deck.connection, count, _POSTGRES_NUMBERS, _POSTGRES_ID)
            deck.connection.execute("VACUUM ANALYZE")
        yield deck


def _run_originals(deck: Deck) -> None:
    """Runs of every outcome, some with progress and log lines, made and ended by jobdeck."""
    deck.by_client(_make_originals)
    starts = sum(_ORIGINAL_TYPES.values()) + _ORIGINAL_TYPES["bench_error"]
    drain([deck.worker(10)], Load(starts, deck.has_ended), deck.folder)


async def _make_originals(client: Client) -> None:
    for job_type, count in _ORIGINAL_TYPES.items():
        await client.runs.trigger_many(job_type, [payload(reports=5) for _ in range(count)])
    for _ in range(3):
        run_id = await client.runs.enqueue("bench_noop", payload(), delay=timedelta(hours=1))
        await client.runs.cancel(run_id, reason="asked for by mistake")


def _copy_on_sqlite(deck: Deck, count: int) -> None:
    # Thrown away at the end, so nothing is lost if the machine dies meanwhile.
    conn = sqlite3.connect(deck.database_file, isolation_level=None)
    try:
        for setting in _SETTINGS:
            conn.execute(f"PRAGMA {setting}")
        conn.create_function("bench_id", 2, _id_bytes, deterministic=True)
        _copy(conn, count, _SQLITE_NUMBERS, "bench_id({created_at}, n)")
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        conn.close()


_SQLITE_NUMBERS = """
WITH RECURSIVE numbers (n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {end})
SELECT n, n * 7368787 % 1073741789 AS lot FROM numbers
"""
_POSTGRES_NUMBERS = (
    "SELECT n, n * 7368787 % 1073741789 AS lot FROM generate_series({first}::bigint, {end} - 1) n"
)
_POSTGRES_ID = """
(lpad(to_hex({created_at} / 1000), 12, '0') || '70008' || substr(md5(n::text), 1, 15))::uuid
"""


def _id_bytes(created_us: int, number: int) -> bytes:
    """An id as jobdeck makes them: in the order of creation, then random."""
    scatter = hashlib.md5(str(number).encode(), usedforsecurity=False).digest()
    return (created_us // 1000).to_bytes(6, "big") + b"\x70\x00\x80" + scatter[:7]


def _copy(conn: _Connection, count: int, numbers: str, new_id: str) -> None:
    conn.execute(_PLACES)
    conn.execute(_ORIGINALS)
    (now,) = conn.execute("SELECT max(created_at) FROM bench_originals").fetchone()
    for first in range(0, count, _CHUNK):
        end = min(first + _CHUNK, count)
        conn.execute("BEGIN")
        conn.execute(_copies(numbers.format(first=first, end=end), new_id, now - _YEAR_US, _YEAR_US // count))
        for table in metadata.sorted_tables:
            if table.name == "runs" or "run_id" in table.columns:
                conn.execute(_insert(table))
        conn.execute("DROP TABLE bench_copies")
        conn.execute("COMMIT")
    if "run_counts" in metadata.tables:
        conn.execute("DELETE FROM run_counts")
        conn.execute(
            "INSERT INTO run_counts (team_id, status, slot, runs) "
            "SELECT team_id, status, 0, count(*) FROM runs GROUP BY team_id, status"
        )
    for table_name in ("bench_places", "bench_originals"):
        conn.execute(f"DROP TABLE {table_name}")


def _copies(numbers: str, new_id: str, first_us: int, step_us: int) -> str:
    """Which run becomes which, with all that distinguishes it, and how much later it was."""
    created_at = f"({first_us} + n * {step_us})"
    bounds, whens = 0, ""
    for status, share in _OUTCOMES.items():
        bounds += share
        whens += f" WHEN lot % 1000 < {bounds} THEN '{status}'"
    return f"""
    CREATE TABLE bench_copies AS
    SELECT n, o.id AS original, {new_id.format(created_at=created_at)} AS id, p.team_id, p.project_id,
        'history_' || (lot / 1000 % {TYPES}) AS job_type, {created_at} - o.created_at AS later,
        CASE WHEN lot % {RARE} = 1 THEN 'nightly' ELSE 'default' END AS queue,
        CASE WHEN lot % {RARE} = 2 THEN 'nightly' ELSE 'general' END AS category
    FROM (SELECT n, lot, CASE{whens} END AS status FROM ({numbers}) drawn) number
    JOIN bench_originals o ON o.status = number.status AND o.place = n % o.alike
    JOIN bench_places p ON p.place = CASE WHEN lot % 2 = 0 THEN 0 ELSE lot / 7 % {len(TEAMS) + 1} END
    ORDER BY n
    """


def _insert(table: Table) -> str:
    columns = [column for column in table.columns if column.identity is None]
    key = "id" if table.name == "runs" else "run_id"
    names = ", ".join(f'"{column.name}"' for column in columns)
    values = ", ".join(_value(column, key) for column in columns)
    return (
        f"INSERT INTO {table.name} ({names}) SELECT {values} "
        f"FROM bench_copies c JOIN {table.name} o ON o.{key} = c.original ORDER BY c.n"
    )


def _value(column: Column[Any], key: str) -> str:
    if column.name == key:
        return "c.id"
    if column.name in _VARIED:
        return f"c.{column.name}"
    if column.name == "at" or column.name.endswith("_at"):
        return f'o."{column.name}" + c.later'
    return f'o."{column.name}"'
