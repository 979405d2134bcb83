"""What a database needs now and then beside its rows: its log cut back, statistics and counters looked after."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import URL, Connection, make_url, select
from sqlalchemy.pool import NullPool

from jobdeck.states import Status
from jobdeck.store.database import Database
from jobdeck.store.failures import translated
from jobdeck.store.house.portable import file_of
from jobdeck.store.lists.counts import drift, mend
from jobdeck.store.schema import metadata, teams
from jobdeck.store.sqlite.wal import size_of

_log = logging.getLogger("jobdeck.store.house.maintenance")
# Seconds; readers come and go in milliseconds, and one that stays is a matter of the next time.
_WAIT_FOR_READERS = 2.0


async def checkpoint(url: str) -> Mapping[str, Any]:
    """Write the log of a SQLite file into the file and cut it back to nothing. Raises DatabaseError.

    Where a reader keeps it, as much as can be is written, and `busy` says so. A server does all this by itself.
    """
    file = file_of(make_url(url))
    return {} if file is None else await asyncio.to_thread(_checkpoint, file)


def _checkpoint(file: Path) -> Mapping[str, Any]:
    before = size_of(file)
    with translated(), closing(_connect(file)) as conn:
        (busy, _, _) = conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return {"wal_bytes_before": before, "wal_bytes": size_of(file), "busy": bool(busy)}


def _connect(file: Path) -> sqlite3.Connection:
    uri = f"{file.as_uri()}?mode=rw"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_WAIT_FOR_READERS)


async def renew_statistics(database: Database, url: str) -> Mapping[str, Any]:
    """Measure a server's tables anew for its planner, and put counters of runs right that are off.

    No plan on SQLite goes by statistics. Raises DatabaseError.
    """
    parsed = make_url(url)
    if file_of(parsed) is None:
        await _analyze(parsed)
    mended = 0
    for team_id in await database.read(_teams):
        for status in Status:
            # One by one: each is a short read, however many runs there are.
            found = await database.read(drift, team_id, status)
            if found is not None:
                _log.warning("the counter of %s runs was %+d off", status, -found.missing)
                await database.write(mend, found)
                mended += 1
    return {"counters_mended": mended}


def _teams(conn: Connection) -> list[UUID]:
    return list(conn.execute(select(teams.c.id).order_by(teams.c.id)).scalars())


async def _analyze(url: URL) -> None:
    from jobdeck.store.postgres.database import postgres_engine
    from jobdeck.store.postgres.pooler import is_pooled

    names = sorted(metadata.tables)
    with translated():
        pooled = await is_pooled(url, timeout=10.0)
        engine = postgres_engine(url, pooled=pooled, poolclass=NullPool)
        async with engine.begin() as conn:
            await conn.exec_driver_sql(f"ANALYZE {', '.join(names)}")
