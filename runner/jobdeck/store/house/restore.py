"""A database filled from a backup, in one transaction, and fenced against everybody who worked on it before.

A restore begins an epoch. Whatever was handed out before it (leases, tokens, fences) is worth nothing afterwards: no
lease is left, and the fence of every run lies above all that an earlier epoch can have reached. So a worker of before,
wherever it comes back from, can write nothing to a run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Table,
    delete,
    exists,
    func,
    insert,
    literal,
    literal_column,
    make_url,
    not_,
    or_,
    select,
    text,
    true,
    update,
)
from sqlalchemy.pool import NullPool

from jobdeck.errors import Conflict, ValidationError
from jobdeck.limits import DEFAULT_PROJECT, DEFAULT_TEAM, SYSTEM_TEAM
from jobdeck.store.differences import Differences
from jobdeck.store.failures import translated
from jobdeck.store.finish import interrupt_all
from jobdeck.store.house.portable import carried, file_of, readable, reading, rows_of
from jobdeck.store.jobs.chain_starts import start_dependants
from jobdeck.store.open import database_of, upgrade, upgrade_file
from jobdeck.store.revision import HEAD, current, wrong_revision
from jobdeck.store.schema import (
    APPEND_ONLY,
    ORDINARY,
    job_templates,
    job_types,
    job_versions,
    jobs,
    leases,
    projects,
    run_counts,
    runs,
    schedules,
    store_epochs,
    teams,
    workers,
)
from jobdeck.store.transaction import Tx

EPOCH_STEP: Final = 1_000_000
"""How far an epoch raises every fence: no run is claimed so often between a backup and its restore."""
_FENCE_MAX: Final = 2**31 - EPOCH_STEP
_MADE_UNASKED: Final = (job_types, job_versions, schedules, job_templates, run_counts, store_epochs)
"""Tables of which a database has rows that nobody has asked for: workers' types, jobdeck's own jobs, its counters."""
_WORDS: Final = "the database was restored from a backup"


@dataclass(frozen=True, slots=True)
class Wish:
    """A restore that was asked for."""

    by: str
    replace: bool = False
    """Whether what is in the database may go."""
    force: bool = False
    """Whether workers that are alive there are no reason to wait."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore came to."""

    epoch: int
    runs: int
    interrupted: int
    """Runs that were under way when the backup was made."""


async def restore(url: str, source: Path, wish: Wish) -> Restored:
    """Fill the database from a backup, as a whole or not at all; a missing schema is made first.

    Raises ValidationError for a file that is no backup, Conflict for a database that is not empty or has workers,
    WrongRevision, DatabaseError.
    """
    parsed = make_url(url)
    target = file_of(parsed)
    with translated(), readable(source) as file:
        if target is not None:
            return await asyncio.to_thread(_into_file, url, target, file, wish)
        return await _into_server(url, parsed, file, wish)


def _into_file(url: str, target: Path, file: Path, wish: Wish) -> Restored:
    from jobdeck.store.sqlite.engines import writer_engine

    if target.exists() and target.samefile(file):
        raise ValidationError(f"{file} is the database itself; name a backup", field="file")
    if not target.exists() or not target.stat().st_size:
        upgrade_file(target)
    # Through SQL and not by another file in its place: who has the database open goes on with what is in it now.
    with writer_engine(target, busy_timeout=30.0).begin() as conn, reading(file) as backup:
        differences = database_of(url).differences
        before = _make_room(conn, differences, wish)
        for table, rows in _all_rows(backup):
            conn.execute(insert(table), rows)
        return _begin_epoch(conn, differences, before, wish)


async def _into_server(url: str, parsed: URL, file: Path, wish: Wish) -> Restored:
    from jobdeck.store.postgres.database import postgres_engine
    from jobdeck.store.postgres.pooler import is_pooled

    pooled = await is_pooled(parsed, timeout=10.0)
    engine = postgres_engine(parsed, pooled=pooled, poolclass=NullPool)
    async with engine.connect() as conn:
        if await conn.run_sync(current) is None:
            await upgrade(url)
    differences = database_of(url).differences
    async with engine.begin() as conn:
        before = await conn.run_sync(_make_room, differences, wish)
        driver: Any = (await conn.get_raw_connection()).driver_connection
        with reading(file) as backup:
            for table, rows in _all_rows(backup):
                # COPY keeps the numbers that identity columns have in the backup.
                await driver.copy_records_to_table(
                    table.name, records=[tuple(row.values()) for row in rows], columns=list(rows[0])
                )
        return await conn.run_sync(_begin_epoch, differences, before, wish)


def _all_rows(backup: Connection) -> Iterator[tuple[Table, Sequence[Mapping[str, Any]]]]:
    for table in carried():
        for rows in rows_of(backup, table):
            yield table, rows


def _make_room(conn: Connection, differences: Differences, wish: Wish) -> int:
    """Empty the tables, where that is allowed, with everybody else kept out of them; the epoch that ends with it."""
    found = current(conn)
    if found != HEAD:
        raise wrong_revision(found)
    tables = carried()
    if conn.dialect.name == "postgresql":
        names = ", ".join(table.name for table in (*tables, workers))
        conn.execute(text(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE"))
    now = differences.now(conn, 0)
    alive = (workers.c.alive_until > now, workers.c.state != "stopped")
    if not wish.force:
        _refuse_workers(conn, *alive)
    if not wish.replace:
        _refuse_contents(conn)
    epoch = conn.execute(select(func.max(store_epochs.c.epoch))).scalar() or 0
    for table in reversed(tables):
        with _emptied(conn, table):
            conn.execute(delete(table))
    # Those that are alive go on working here.
    conn.execute(delete(workers).where(or_(*(not_(each) for each in alive))))
    return int(epoch)


@contextmanager
def _emptied(conn: Connection, table: Table) -> Iterator[None]:
    """Within the block rows of a table may go that is else only added to; a restore brings another audit along."""
    if table not in APPEND_ONLY:
        yield
    elif conn.dialect.name == "postgresql":
        conn.execute(text(f"ALTER TABLE {table.name} DISABLE TRIGGER USER"))
        yield
        conn.execute(text(f"ALTER TABLE {table.name} ENABLE TRIGGER USER"))
    else:
        of_table = text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = :name")
        triggers = conn.execute(of_table, {"name": table.name}).all()
        for name, _ in triggers:
            conn.exec_driver_sql(f"DROP TRIGGER {name}")
        yield
        for _, made_by in triggers:
            conn.exec_driver_sql(made_by)


def _refuse_workers(conn: Connection, *alive: Any) -> None:
    found = conn.execute(select(workers.c.host, workers.c.pid).where(*alive)).all()
    if found:
        named = f"{found[0].host}:{found[0].pid}" + (f" and {len(found) - 1} more" if len(found) > 1 else "")
        raise Conflict(f"a worker is alive on this database: {named}; stop it, or let --force fence it off")


def _refuse_contents(conn: Connection) -> None:
    house = select(teams.c.id).where(teams.c.slug == SYSTEM_TEAM)
    by_people: Mapping[Table, ColumnElement[bool]] = {
        teams: teams.c.slug.not_in((DEFAULT_TEAM, SYSTEM_TEAM)),
        projects: projects.c.slug != DEFAULT_PROJECT,
        jobs: jobs.c.team_id.not_in(house),
    }
    for table in carried():
        if table in _MADE_UNASKED:
            continue
        found = exists().select_from(table).where(by_people.get(table, true()))
        if conn.execute(select(found)).scalar():
            raise Conflict(
                f"the database is not empty: there is something in {table.name}; --replace drops all that is in it "
                "(make a backup of that first)"
            )


def _begin_epoch(conn: Connection, differences: Differences, before: int, wish: Wish) -> Restored:
    now = differences.now(conn, 0)
    own = conn.execute(select(func.max(store_epochs.c.epoch))).scalar() or 0
    epoch = max(own, before) + 1
    if conn.dialect.name == "postgresql":
        _go_on_numbering(conn)
    tx = Tx(conn, now, differences)
    interrupted = interrupt_all(tx, _WORDS, "restore")
    start_dependants(tx)
    conn.execute(delete(leases))
    raised = (epoch - own) * EPOCH_STEP
    highest = conn.execute(select(func.max(runs.c.fence))).scalar() or 0
    if highest + raised > _FENCE_MAX:
        raise Conflict(
            f"fences end here: this is epoch {epoch}; restore into a new database without --replace"
        )
    conn.execute(update(runs).values(fence=runs.c.fence + raised))
    conn.execute(insert(store_epochs), {"epoch": epoch, "restored_at": now, "restored_by": wish.by})
    _count_again(conn)
    return Restored(epoch, conn.execute(select(func.count()).select_from(runs)).scalar_one(), interrupted)


def _count_again(conn: Connection) -> None:
    conn.execute(delete(run_counts))
    counted = (
        select(runs.c.team_id, runs.c.status, literal_column("0"), func.count())
        .where(ORDINARY)
        .group_by(runs.c.team_id, runs.c.status)
    )
    conn.execute(insert(run_counts).from_select(["team_id", "status", "slot", "runs"], counted))


def _go_on_numbering(conn: Connection) -> None:
    for table in carried():
        for column in table.columns:
            if column.identity is not None:
                highest = conn.execute(select(func.max(column))).scalar()
                sequence = func.pg_get_serial_sequence(literal(table.name), literal(column.name))
                conn.execute(select(func.setval(sequence, highest or 1, highest is not None)))
