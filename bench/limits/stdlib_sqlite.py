"""The standard library's sqlite3 alone, durable: jobs inserted, or claimed in one transaction and ended in another."""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from pathlib import Path

from bench.limits.job_table import fill, insert

_CLAIM = """
UPDATE job SET status = 1, attempts = attempts + 1, worker = 'w', lease_until = ?
WHERE id IN (SELECT id FROM job WHERE status = 0 AND due_at <= ? ORDER BY priority, due_at, id LIMIT ?)
RETURNING id, attempts
"""
_START = "INSERT INTO ran (job_id, attempt, status, worker, started_at) VALUES (?, ?, 1, 'w', ?)"
_END_JOB = "UPDATE job SET status = 2, finished_at = ? WHERE id = ? AND worker = 'w'"
_END_RAN = "UPDATE ran SET status = 2, finished_at = ?, result = 'null' WHERE job_id = ? AND status = 1"


def cycle(conn: sqlite3.Connection, batch: int) -> int:
    """Claim some and record that they run; then end them. How many there were."""
    now = time.time_ns()
    conn.execute("BEGIN IMMEDIATE")
    claimed = conn.execute(_CLAIM, (now, now, batch)).fetchall()
    conn.executemany(_START, [(job, attempt, now) for job, attempt in claimed])
    conn.execute("COMMIT")
    ends = [(time.time_ns(), job) for job, _ in claimed]
    conn.execute("BEGIN IMMEDIATE")
    conn.executemany(_END_JOB, ends)
    conn.executemany(_END_RAN, ends)
    conn.execute("COMMIT")
    return len(claimed)


def main(what: str, path: str, batch: int, seconds: float) -> float:
    """Jobs per second, for `seconds` or until there are no more."""
    conn = fill(Path(path), 60_000 if what == "cycle" else 0)
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        if what == "cycle":
            ended = cycle(conn, batch)
            if not ended:
                break
            done += ended
        else:
            insert(conn, batch)
            done += batch
    return done / (time.perf_counter() - started)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))))
