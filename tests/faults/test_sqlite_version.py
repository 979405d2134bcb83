"""A SQLite that is known to corrupt files."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from jobdeck.store.sqlite import version as sqlite_version
from tests.faults.case import Case

pytestmark = pytest.mark.parametrize("database_kind", ["sqlite"])


@pytest.mark.parametrize("version", [(3, 51, 2), (3, 51, 3)], ids=["broken", "mended"])
async def test_r16_the_version_is_said(case: Case, version: tuple[int, int, int]) -> None:
    """`doctor` and a worker's log name version and advice; with --strict the exit code refuses. Not so once mended."""
    shown = ".".join(map(str, version))
    broken = version < (3, 51, 3)
    worker = case.workers.start(sqlite=shown)
    # Nothing but the version is to be warned of.
    await case.until(lambda: case.history().workers)
    said = [worker.said()]
    codes = []
    for arguments in ((), ("--strict",)):
        doctor = case.workers.start(*arguments, command="doctor", sqlite=shown)
        codes.append(await asyncio.to_thread(doctor.wait))
        said.append(doctor.said())
    assert codes == [0, 1 if broken else 0], said
    assert [f"{shown} has the WAL-reset bug" in text for text in said] == [broken] * 3
    assert [sqlite_version.ADVICE in text for text in said] == [broken] * 3
    case.judge(faults=0, note=f"as if SQLite were {shown}; here it is {sqlite3.sqlite_version}")
