"""Backups under load and restores beside workers that know nothing of them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from jobdeck.client import Client
from jobdeck.errors import StaleLease
from jobdeck.states import AttemptOutcome
from jobdeck.store.finish import Finish, finish
from jobdeck.store.house.backup import back_up
from jobdeck.store.house.restore import Wish, restore
from jobdeck.store.open import database_of
from jobdeck.verdict import Ending
from tests.faults.case import LONG_LEASE, Case
from tests.faults.history import History, dump
from tests.faults.invariants import Breach, effects_behind_results, legal_path, nobody_stranded, one_result
from tests.faults.ledger import Entry
from tests.faults.test_canaries import VALUES, configuration, echo, hits, runs
from tests.handlers.api import Reply, serving
from tests.postgres import PostgresServer, create_database, drop_database

WORKERS = 2
SHORT, WHOLE = (2, 60), (12, 400)
"""Backups, and runs asked for before each."""
HELD = 3
"""Runs that are under way for longer than the case takes, when the last backup is made."""


@pytest.fixture
def elsewhere(case: Case, postgres_server: PostgresServer, tmp_path: Path) -> Iterator[str]:
    """A database of the other kind, with nothing in it."""
    if case.kind == "postgresql":
        yield f"sqlite:///{tmp_path / 'elsewhere.db'}"
        return
    url = create_database(postgres_server)
    yield url
    drop_database(postgres_server, url)


async def test_r31_backup_and_restore(case: Case, elsewhere: str) -> None:
    """Backups under load are consistent; after a restore, elsewhere and in place, old fences are refused.

    The workers of before stay up, and go on with what is new.
    """
    count, runs_each = case.size.of(SHORT, WHOLE)
    more: list[Breach] = []
    for _ in range(WORKERS):
        case.workers.start(settings=LONG_LEASE)
    async with case.client(LONG_LEASE) as client:
        for number in range(count):
            await case.enqueue(client, runs_each, seconds=0.02)
            made, _ = await asyncio.gather(
                back_up(case.url, case.folder / f"backup-{number}"),
                case.enqueue(client, runs_each, seconds=0.02),
            )
            more += judged(case, made.path)
        await case.settled()
        held = await case.enqueue(client, HELD, seconds=600)
        await case.until(lambda: len(dump(case.url).leases) == HELD)
        last = case.folder / "last"
        await back_up(case.url, last)
        before = dump(case.url)
        more += await moved(case, last, elsewhere, before)
        more += await in_place(case, client, last, held, before)
        await case.settled()
    case.judge(more=more, faults=2, note=f"{count} backups under load, restored in place and elsewhere")


def judged(case: Case, backup: Path) -> list[Breach]:
    """What must hold in a backup whatever the moment was: I1 of what it can know, I2, I3, I4, I5, and its counters."""
    history = dump(f"sqlite:///{backup}")
    ledger = ledger_of(case, history)
    found = [
        breach
        for invariant in (effects_behind_results, one_result, legal_path, nobody_stranded)
        for breach in invariant(ledger, history)
    ]
    return [*found, *miscounted(backup)]


def ledger_of(case: Case, history: History) -> list[Entry]:
    """The effects behind the runs of a backup, and everything else that is not about a run."""
    known = set(history.by_id)
    return [entry for entry in case.ledger.read() if entry.run is None or entry.run in known]


def miscounted(backup: Path) -> list[Breach]:
    """Counters that say something else than the rows of the same backup."""
    with sqlite3.connect(backup) as conn:
        told = "SELECT team_id, status, sum(runs) AS n FROM run_counts GROUP BY 1, 2 HAVING n <> 0"
        rows = "SELECT team_id, status, count(*) FROM runs WHERE job_type NOT LIKE 'system.%' GROUP BY 1, 2"
        differ = set(conn.execute(told)) ^ set(conn.execute(rows))
    conn.close()
    return [Breach("I4", "-", f"a backup counts {differ}")] if differ else []


async def moved(case: Case, backup: Path, elsewhere: str, before: History) -> list[Breach]:
    """Restored into the other kind of database: all is there, nothing runs, no fence of before is worth anything."""
    done = await restore(elsewhere, backup, Wish("ann"))
    history = dump(elsewhere)
    assert (done.runs, done.interrupted, len(history.leases)) == (len(before.runs), HELD, 0)
    more = [breach for invariant in (one_result, legal_path) for breach in invariant([], history)]
    return more + await refused(elsewhere, before)


async def in_place(
    case: Case, client: Client, backup: Path, held: list[UUID], before: History
) -> list[Breach]:
    """Restored under living workers: they lose what they held, and take it and what is new under new fences."""
    lost = await case.enqueue(client, 1, seconds=600)
    case.ledger.fault("restore")
    await restore(case.url, backup, Wish("ann", replace=True, force=True))
    more = await refused(case.url, before)
    assert lost[0].hex not in dump(case.url).by_id
    forget(case, lost)
    again = dump(case.url).by_id
    more += [
        Breach("I3", run_id, f"has fence {again[run_id]['fence']} after the restore")
        for run_id in (each.hex for each in held)
        if again[run_id]["fence"] <= 1_000_000
    ]
    for run_id in held:
        await client.runs.cancel(run_id)
    await case.enqueue(client, 10)
    return more


def forget(case: Case, ids: list[UUID]) -> None:
    """Of what was asked for after a backup, nothing can be asked of the database that was restored from it."""
    gone = {run_id.hex for run_id in ids}
    kept = [entry for entry in case.ledger.read() if entry.run not in gone]
    case.ledger.path.write_text("")
    for entry in kept:
        case.ledger.write(entry)


async def refused(url: str, before: History) -> list[Breach]:
    """What holders of before bring to their runs; whatever is taken of it is a breach."""
    database = database_of(url)
    await database.open()
    try:
        items = [
            Finish(row["run_id"], row["fence"], Ending(AttemptOutcome.COMPLETED, result='"late"'))
            for row in before.leases
        ]
        results = await database.write_many(finish, items)
    finally:
        await database.close()
    return [
        Breach("I3", item.run_id.hex, f"took the outcome of fence {item.fence} of before the restore")
        for item, result in zip(items, results, strict=True)
        if not isinstance(result, StaleLease)
    ]


async def test_s05_backup(case: Case) -> None:
    """A backup tells no secret that its runs were given, in any form."""
    with serving() as api:
        api.routes = {"/echo": echo, "/refuse": lambda asked: Reply(echo(asked).body, 401)}
        settings = configuration(case, api)
        case.workers.start(settings=settings)
        async with case.client(settings) as client:
            for job_type, params in runs(api):
                await client.runs.enqueue(job_type, params, max_attempts=1)
            await case.settled()
            made = await back_up(case.url, case.folder / "backup")
    said = made.path.read_bytes().decode("utf-8", "replace")
    assert "secret://HEADER" in said
    more = [Breach("S05", name, f"{form!r} in a backup") for name, form in hits(said)]
    case.judge(more=more, faults=len(VALUES), note=f"a backup of {made.size:,} bytes")
