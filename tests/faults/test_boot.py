"""Workers that start before their database does, or on one that is not theirs to work with."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from alembic import command as alembic
from sqlalchemy import text

from jobdeck.store import migrate
from jobdeck.store.revision import HEAD
from tests.faults.case import LONG_LEASE, Case
from tests.faults.history import plain_engine
from tests.faults.invariants import Breach
from tests.faults.outages import locked
from tests.faults.workers import Worker
from tests.postgres import PostgresServer

# Seconds for which the database is not there; the workers look every 10 s at most.
SHORT, WHOLE = 1.0, 60.0
LOOK = 10.0


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_r34_a_server_that_comes_later(
    server_case: Case, own_server: PostgresServer, database_kind: str
) -> None:
    """Workers start before the server: they wait, say so, can be stopped meanwhile, and work once it is there."""
    case = server_case
    seconds = case.size.of(SHORT, WHOLE)
    case.ledger.fault("no server")
    await asyncio.to_thread(own_server.stop)
    workers = [case.workers.start(settings=LONG_LEASE) for _ in range(2)]
    impatient = case.workers.start()
    await case.until(lambda: all("waiting for it" in worker.said() for worker in (*workers, impatient)))
    assert (await _from_a_shell(case, "--check")).returncode == 0
    impatient.terminate()
    assert await asyncio.to_thread(impatient.wait) == 0
    await asyncio.sleep(seconds)
    await asyncio.to_thread(own_server.start)
    there_at = time.monotonic()
    await case.until(lambda: len(case.history().workers) == 2)
    took = time.monotonic() - there_at
    async with case.client() as client:
        await case.enqueue(client, 20)
        await case.settled()
    more = [] if took < LOOK + 3.0 else [Breach("I6", "-", f"the workers came {took:.1f} s after the server")]
    case.judge(more=[*more, *_loops(workers, seconds)], recovery=took, note=f"absent for {seconds:.0f} s")
    assert all(worker.alive and "the database is there" in worker.said() for worker in workers)


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_r34_a_file_that_is_locked(case: Case) -> None:
    """Workers start while another program has the file locked: they wait and say so, and then work."""
    settings = {"database": {"busy_timeout": "300ms"}}
    with locked(case):
        # The first writes as it registers; `--processes` asks one worker first what would keep it from starting.
        workers = [case.workers.start(settings=settings) for _ in range(2)]
        await case.until(lambda: all("waiting for it" in worker.said() for worker in workers))
    free_at = time.monotonic()
    await case.until(lambda: len(case.history().workers) == 2)
    took = time.monotonic() - free_at
    async with case.client() as client:
        await case.enqueue(client, 20)
        await case.settled()
    case.judge(recovery=took, note="locked")
    assert all(worker.alive for worker in workers)


async def _from_a_shell(case: Case, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`jobdeck runner` to its end, with a command line that it can start again for its children."""
    command = [
        sys.executable,
        "-m",
        "jobdeck",
        "runner",
        "--config",
        str(case.workers.config({})),
        *arguments,
    ]
    return await asyncio.to_thread(
        subprocess.run,
        command,
        env=case.workers.environment(),
        cwd=case.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def _loops(workers: Sequence[Worker], seconds: float) -> list[Breach]:
    """Looks get rarer: in so many seconds a process looks a few times, and nobody shows a traceback."""
    most = 10 + seconds / LOOK * 4
    found = []
    for worker in workers:
        said = worker.said()
        if "Traceback" in said or said.count("waiting for it") > 2 * most:
            found.append(Breach("loop", "-", said[-500:]))
    return found


@pytest.mark.parametrize(
    ("revision", "words"),
    [("0000", f"this jobdeck needs {HEAD}; run: jobdeck db upgrade"), ("9999", "install the newer jobdeck")],
    ids=["older", "newer"],
)
async def test_r34_another_schema(case: Case, revision: str, words: str) -> None:
    """The schema is older or newer: workers, supervised ones too, end with code 7 and one line, once."""
    with case.connection() as conn:
        conn.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
    worker = case.workers.start()
    assert await asyncio.to_thread(worker.wait) == 7
    supervised = await _from_a_shell(case, "--processes", "2")
    assert supervised.returncode == 7
    for said in (worker.said(), supervised.stderr):
        assert [words in line for line in said.splitlines() if "SQLite" not in line] == [True]
    assert case.history().workers == []


async def test_r34_a_database_that_lets_nobody_in(case: Case, tmp_path: Path) -> None:
    """A name that is wrong, a file that is none: waiting would not help, so the worker says so and ends with code 7."""
    wrong = f"sqlite:///{tmp_path}" if case.kind == "sqlite" else case.url.replace("/jobdeck_", "/no_such_")
    worker = case.workers.start(settings={"database_url": wrong})
    assert await asyncio.to_thread(worker.wait) == 7
    assert "waiting" not in worker.said()
    assert worker.said().splitlines()[-1].startswith("error: the database ")


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_r34_the_embedded_database(case: Case) -> None:
    """The user's own file is made where it is missing, and brought up to date where it is of an older jobdeck."""
    embedded = f"sqlite:///{case.folder / 'jobdeck.db'}"
    case.url = embedded
    case.workers.settings = {**case.workers.settings, "database_url": ""}
    first = case.workers.start("--drain")
    assert await asyncio.to_thread(first.wait) == 0, first.said()
    for name in ("jobdeck.db", "jobdeck.db-wal", "jobdeck.db-shm"):
        (case.folder / name).unlink(missing_ok=True)
    with plain_engine(embedded).begin() as conn:
        config = migrate._config()
        config.attributes["connection"] = conn
        alembic.upgrade(config, "0001")
    case.workers.start()
    async with case.client() as client:
        await case.enqueue(client, 5)
        await case.settled()
    case.judge(faults=1, note="made, and upgraded from 0001")
