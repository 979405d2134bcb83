"""The tables of the SQLite limits: a job with two indexes, and a row for each time it ran."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from bench.payload import payload

_SCHEMA = """
CREATE TABLE job (
    id INTEGER PRIMARY KEY, team INTEGER NOT NULL, type TEXT NOT NULL, status INTEGER NOT NULL DEFAULT 0,
    priority INTEGER NOT NULL DEFAULT 5, due_at INTEGER NOT NULL, created_at INTEGER NOT NULL, payload TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, worker TEXT, lease_until INTEGER, finished_at INTEGER
);
CREATE INDEX job_ready ON job (priority, due_at, id) WHERE status = 0;
CREATE INDEX job_list ON job (team, status, type, id);
CREATE TABLE ran (
    id INTEGER PRIMARY KEY, job_id INTEGER NOT NULL, attempt INTEGER NOT NULL, status INTEGER NOT NULL,
    worker TEXT NOT NULL, started_at INTEGER NOT NULL, finished_at INTEGER, result TEXT
);
CREATE INDEX ran_job ON ran (job_id);
"""
_INSERT = "INSERT INTO job (team, type, due_at, created_at, payload) VALUES (?, ?, 1, 1, ?)"
PRAGMAS = ("journal_mode=WAL", "synchronous=FULL")


def connect(path: Path) -> sqlite3.Connection:
    """A durable connection with no transactions of its own making."""
    conn = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for pragma in PRAGMAS:
        conn.execute(f"PRAGMA {pragma}")
    return conn


def insert(conn: sqlite3.Connection, count: int) -> None:
    """So many jobs in one transaction."""
    text = json.dumps(payload())
    conn.execute("BEGIN IMMEDIATE")
    conn.executemany(_INSERT, ((number % 20, f"type{number % 5}", text) for number in range(count)))
    conn.execute("COMMIT")


def fill(path: Path, count: int) -> sqlite3.Connection:
    """A new file with so many jobs that wait."""
    conn = connect(path)
    conn.executescript(_SCHEMA)
    insert(conn, count)
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return conn
