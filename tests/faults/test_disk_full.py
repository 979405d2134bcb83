"""A disk of a few MiB that fills up and is freed again."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from psycopg import sql

from jobdeck.client import Client
from jobdeck.errors import DatabaseFull
from jobdeck.store.open import upgrade
from tests.faults.case import Case
from tests.faults.leaks import holdings, nothing_leaked
from tests.faults.workers import merged
from tests.postgres import PostgresServer

OUTSIDE_SERVER = "JOBDECK_TEST_POSTGRES_URL" in os.environ
_MIB = 1024 * 1024
# An empty database of PostgreSQL has 8 MiB already.
DISKS = {"sqlite": 8 * _MIB, "postgresql": 24 * _MIB}
# Bytes left free when the disk is said to be full: the next transactions find no room.
LEFT = 64 * 1024
# Seconds for which it stays full.
SHORT, WHOLE = 3.0, 20.0


@pytest.fixture
def small_disk(database_kind: str) -> Iterator[Path]:
    """A file system of a few MiB for the account of the database; only root can make one."""
    owner = pwd.getpwnam("nobody").pw_uid if database_kind == "postgresql" else os.getuid()
    # Not under `tmp_path`: the server's account could not get there.
    folder = Path(tempfile.mkdtemp(prefix="jobdeck-disk-", dir="/tmp"))
    options = f"size={DISKS[database_kind]},mode=0700,uid={owner}"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
            pytest.skip("a small disk can only be mounted by root")
        yield folder
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
    finally:
        folder.rmdir()


@pytest.fixture
def case_there(case: Case, small_disk: Path, request: pytest.FixtureRequest) -> Iterator[Case]:
    """The case with its database on that disk."""
    if case.kind == "sqlite":
        shutil.copy2(case.file, small_disk / "jobdeck.db")
        yield _moved(case, f"sqlite:///{small_disk / 'jobdeck.db'}")
        return
    if OUTSIDE_SERVER:
        pytest.skip("the server of JOBDECK_TEST_POSTGRES_URL is not ours to give a disk")
    server: PostgresServer = request.getfixturevalue("postgres_server")
    with _tablespace(server, small_disk) as url:
        asyncio.run(upgrade(url))
        yield _moved(case, url)


@contextmanager
def _tablespace(server: PostgresServer, disk: Path) -> Iterator[str]:
    """A database of its own on that disk; the server's own files stay where they are."""
    name = sql.Identifier(disk.name)
    place = {"name": name, "folder": sql.Literal(str(disk))}
    server.execute(sql.SQL("CREATE TABLESPACE {name} LOCATION {folder}").format(**place))
    server.execute(sql.SQL("CREATE DATABASE {name} TABLESPACE {name}").format(**place))
    try:
        yield server.url_of(disk.name)
    finally:
        server.execute(sql.SQL("DROP DATABASE {name} WITH (FORCE)").format(**place))
        server.execute(sql.SQL("DROP TABLESPACE {name}").format(**place))


def _moved(case: Case, url: str) -> Case:
    case.workers.settings = merged(case.workers.settings, {"database_url": url})
    return replace(case, url=url)


async def test_r14_a_full_disk(case_there: Case, small_disk: Path) -> None:
    """Who enqueues is told that the disk is full, workers stay up and say so; freed, they go on by themselves.

    What was acknowledged is intact.
    """
    case = case_there
    seconds = case.size.of(SHORT, WHOLE)
    ballast = small_disk / "ballast"
    async with case.client() as client:
        worker = case.workers.start()
        await case.enqueue(client, 20, seconds=0.05)
        await case.settled()
        before = holdings(worker.pid)
        await case.enqueue(client, 40, seconds=0.1)
        case.ledger.fault("fill the disk")
        full_at = time.monotonic()
        await asyncio.to_thread(_fill, ballast)
        refused = await _enqueue_until_full(case, client)
        await case.until(lambda: "full" in worker.said())
        await case.until(lambda: time.monotonic() > full_at + seconds)
        assert worker.alive
        await asyncio.to_thread(ballast.unlink)
        free_at = time.monotonic()
        await case.settled()
        recovery = time.monotonic() - free_at
        await case.enqueue(client, 20)
        await case.settled()
        more = list(nothing_leaked(before, holdings(worker.pid)))
    note = f"full for {free_at - full_at:.0f} s; an enqueue was told: {refused.message}"
    history = case.judge(more=more, recovery=recovery, note=note)
    assert {row["status"] for row in history.runs} == {"completed"}
    assert worker.alive


def _fill(ballast: Path) -> None:
    """Take what is free, down to a little."""
    with ballast.open("wb") as file, suppress(OSError):
        while os.statvfs(ballast).f_bavail * os.statvfs(ballast).f_frsize > LEFT:
            file.write(b"x" * 4096)
            file.flush()


async def _enqueue_until_full(case: Case, client: Client) -> DatabaseFull:
    """Ask for runs until one is refused; what was acknowledged is in the ledger."""
    while True:
        try:
            await case.enqueue(client, 1, seconds=0.05)
        except DatabaseFull as error:
            return error
