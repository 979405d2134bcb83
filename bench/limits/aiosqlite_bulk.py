"""What most would write: SQLAlchemy on aiosqlite, durable, inserting jobs in batches."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from sqlalchemy import event, insert
from sqlalchemy.ext.asyncio import create_async_engine

from bench.limits.core_tables import job
from bench.limits.job_table import PRAGMAS, fill
from bench.payload import payload


async def rate(path: Path, batch: int, seconds: float) -> float:
    """Jobs per second."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
    event.listen(engine.sync_engine, "connect", _configure)
    async with engine.connect() as first:
        await first.exec_driver_sql("SELECT 1")
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        rows = [
            {"team": 1, "type": "type1", "due_at": 1, "created_at": 1, "payload": json.dumps(payload())}
            for _ in range(batch)
        ]
        async with engine.begin() as conn:
            await conn.execute(insert(job).inline(), rows)
        done += batch
    reached = done / (time.perf_counter() - started)
    await engine.dispose()
    return reached


def _configure(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


if __name__ == "__main__":
    fill(Path(sys.argv[1]), 0).close()
    print(json.dumps(asyncio.run(rate(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))))
