"""`jobdeck doctor`: what is wrong, and what mends it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path
from unittest import mock

import pytest

from jobdeck import doctor
from jobdeck.cli.main import build, run
from jobdeck.doctor import Finding, examine
from jobdeck.settings import load_settings
from jobdeck.store.sqlite import wal


async def examined(url: str, folder: Path) -> dict[str, Finding]:
    """The findings by name."""
    settings = load_settings(overrides={"database_url": url, "data_dir": folder})
    return {finding.name: finding for finding in await examine(settings)}


async def test_a_fresh_installation_lacks_only_a_worker(database_url: str, tmp_path: Path) -> None:
    """Database, revision, clock and plugins are fine; the one thing to do is to start a worker."""
    found = await examined(database_url, tmp_path)
    assert {
        name: found[name].state for name in ("database", "revision", "clock", "plugins")
    } == dict.fromkeys(("database", "revision", "clock", "plugins"), "ok")
    assert (found["workers"].state, found["workers"].mend) == ("warn", "jobdeck runner")


@pytest.mark.parametrize(
    ("version", "state"), [((3, 51, 2), "warn"), ((3, 51, 3), "ok"), ((3, 40, 1), "warn"), ((3, 52, 0), "ok")]
)
@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_the_wal_reset_bug_is_known(
    version: tuple[int, int, int],
    state: str,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SQLite 3.7.0 to 3.51.2 can corrupt a file; later ones cannot (R16)."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    assert (await examined(database_url, tmp_path))["sqlite"].state == state


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_a_log_that_cannot_shrink_is_said(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write-ahead log beyond its limit comes with what to do (R13)."""
    assert (await examined(database_url, tmp_path))["wal"].state == "ok"
    monkeypatch.setattr(wal, "ALARM_BYTES", -1)
    found = (await examined(database_url, tmp_path))["wal"]
    assert (found.state, found.mend) == ("warn", wal.ADVICE)


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_strict_refuses_what_is_only_a_warning(database_url: str, tmp_path: Path) -> None:
    """Without a worker there is a warning: exit code 0, and 1 with --strict."""
    environment = {"JOBDECK_DATABASE_URL": database_url, "JOBDECK_DATA_DIR": str(tmp_path)}
    with mock.patch.dict(os.environ, environment):
        assert [run(build(), ["doctor", *given]) for given in ([], ["--strict"])] == [0, 1]


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_open_modes_and_network_disks_are_said(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file others can read, and one on a file system without locks, each with what to do (R15)."""
    path = Path(database_url.removeprefix("sqlite:///"))
    await asyncio.to_thread(path.chmod, 0o644)
    monkeypatch.setattr(doctor, "_kind_of_file_system", lambda _path: "nfs4")
    found = await examined(database_url, tmp_path)
    assert (found["files"].state, found["files"].mend) == ("warn", f"chmod 600 {path}*")
    assert found["disk"].state == "fail"


async def test_an_unreachable_database_is_one_finding_among_others(tmp_path: Path) -> None:
    """The other checks are made all the same."""
    found = await examined("postgresql://nobody@127.0.0.1:9/none", tmp_path)
    assert found["database"].state == "fail"
    assert found["plugins"].state == "ok"
