"""asyncpg alone, one connection, prepared statements: jobs inserted, or claimed by one and ended by another."""

from __future__ import annotations

import asyncio
import json
import sys
import time

import asyncpg

from bench.payload import payload

SCHEMA = """
CREATE TABLE job (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, team int NOT NULL, type text NOT NULL,
    status smallint NOT NULL DEFAULT 0, priority int NOT NULL DEFAULT 5, due_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(), payload jsonb NOT NULL, attempts int NOT NULL DEFAULT 0,
    worker text, lease_until timestamptz, finished_at timestamptz
);
CREATE INDEX job_ready ON job (priority, due_at, id) WHERE status = 0;
CREATE INDEX job_list ON job (team, status, type, id);
CREATE TABLE ran (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, job_id bigint NOT NULL, attempt int NOT NULL,
    status smallint NOT NULL, worker text NOT NULL, started_at timestamptz NOT NULL, finished_at timestamptz,
    result jsonb
);
CREATE INDEX ran_job ON ran (job_id);
"""
_INSERT = "INSERT INTO job (team, type, payload) SELECT 1, 'type1', unnest($1::jsonb[])"
# By an array and not a join: with a limit that is a parameter, a generic plan would scan the table.
_CLAIM = """
WITH claimed AS (
    UPDATE job SET status = 1, attempts = attempts + 1, worker = 'w', lease_until = now() + interval '30 s'
    WHERE id = ANY (ARRAY(
        SELECT id FROM job WHERE status = 0 AND due_at <= now() ORDER BY priority, due_at, id
        LIMIT $1::bigint FOR UPDATE SKIP LOCKED))
    RETURNING id, payload, attempts
), started AS (
    INSERT INTO ran (job_id, attempt, status, worker, started_at) SELECT id, attempts, 1, 'w', now() FROM claimed
)
SELECT id, payload::text FROM claimed
"""
_END = """
WITH ended AS (
    UPDATE job SET status = 2, finished_at = now() WHERE id = ANY ($1::bigint[]) AND worker = 'w' RETURNING id
)
UPDATE ran SET status = 2, finished_at = now(), result = 'null' FROM ended
WHERE ran.job_id = ended.id AND ran.status = 1
"""


async def cycle(conn: asyncpg.Connection, batch: int, seconds: float) -> float:
    """Jobs per second, claimed and ended so many at a time."""
    waiting = [json.dumps(payload())] * 60_000
    await conn.execute(_INSERT, waiting)
    await conn.execute("VACUUM ANALYZE job")
    claim, end = await conn.prepare(_CLAIM), await conn.prepare(_END)
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        rows = await claim.fetch(batch)
        if not rows:
            break
        await end.fetch([row["id"] for row in rows])
        done += len(rows)
    return done / (time.perf_counter() - started)


async def enqueue(conn: asyncpg.Connection, batch: int, seconds: float) -> float:
    """Jobs per second, inserted so many at a time."""
    insert = await conn.prepare(_INSERT)
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        await insert.fetch([json.dumps(payload()) for _ in range(batch)])
        done += batch
    return done / (time.perf_counter() - started)


async def main(what: str, url: str, batch: int, seconds: float) -> float:
    """Jobs per second."""
    conn = await asyncpg.connect(url)
    try:
        await conn.execute(SCHEMA)
        measure = cycle if what == "cycle" else enqueue
        return await measure(conn, batch, seconds)
    finally:
        await conn.close()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))))
