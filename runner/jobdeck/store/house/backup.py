"""A backup of a database in use: consistent, private, and whole or not there."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Table, insert, make_url, select
from sqlalchemy.pool import NullPool

from jobdeck.store.failures import translated
from jobdeck.store.house.portable import (
    ROWS_AT_ONCE,
    beside,
    carried,
    check_target,
    count_runs,
    file_of,
    reading,
    seal,
)
from jobdeck.store.open import upgrade_file
from jobdeck.store.revision import HEAD, current, wrong_revision


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was made."""

    path: Path
    size: int
    """Bytes."""
    runs: int


async def back_up(url: str, target: Path, *, overwrite: bool = False) -> Backup:
    """Write everything that is committed at one moment into a file, while others go on writing.

    An existing file is replaced only with `overwrite`, and only by a whole backup. SQLite: of whatever schema the
    database has. PostgreSQL: of today's. Raises ValidationError, Conflict, WrongRevision, DatabaseError.
    """
    parsed = make_url(url)
    file = file_of(parsed)
    check_target(target, overwrite=overwrite, database=file)
    with translated(), beside(target) as made:
        if file is not None:
            await asyncio.to_thread(_copy_file, file, made)
        else:
            await asyncio.to_thread(upgrade_file, made)
            await _copy_server(parsed, made)
        return await asyncio.to_thread(_finished, made, target)


def _finished(made: Path, target: Path) -> Backup:
    seal(made)
    with reading(made) as conn:
        if current(conn) is None:
            raise wrong_revision(None)
        return Backup(target, made.stat().st_size, conn.execute(count_runs).scalar_one())


def _copy_file(source: Path, made: Path) -> None:
    # Not the pages as they are: what was deleted still stands in those that are free.
    with closing(sqlite3.connect(f"{source.as_uri()}?mode=rw", uri=True, isolation_level=None)) as conn:
        conn.execute("VACUUM INTO ?", (str(made),))


async def _copy_server(url: URL, made: Path) -> None:
    from jobdeck.store.postgres.database import postgres_engine
    from jobdeck.store.postgres.pooler import is_pooled
    from jobdeck.store.sqlite.engines import writer_engine

    pooled = await is_pooled(url, timeout=10.0)
    engine = postgres_engine(url, pooled=pooled, poolclass=NullPool)
    with writer_engine(made).begin() as into:
        async with engine.connect() as conn:
            # One snapshot for all tables.
            await conn.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            async with conn.begin():
                found = await conn.run_sync(current)
                if found != HEAD:
                    raise wrong_revision(found)
                for table in carried():
                    result = await conn.stream(select(table).execution_options(yield_per=ROWS_AT_ONCE))
                    async for rows in result.mappings().partitions(ROWS_AT_ONCE):
                        await asyncio.to_thread(_store, into, table, [dict(row) for row in rows])


def _store(into: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    into.execute(insert(table), rows)
