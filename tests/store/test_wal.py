"""The size of SQLite's write-ahead log, and who is told when it is too large."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from jobdeck.store.sqlite import wal


@pytest.fixture
def log_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A write-ahead log that is looked at all the time; more than 10 bytes are too many."""
    monkeypatch.setattr(wal, "ALARM_BYTES", 10)
    monkeypatch.setattr(wal, "_LOOK_EVERY", 0)
    return tmp_path / "some.db-wal"


def test_trouble_begins_above_the_limit(log_file: Path) -> None:
    """No file and one of just the allowed size are in order; a byte more is named."""
    database = log_file.with_name("some.db")
    assert wal.size_of(database) == 0
    assert wal.trouble(database) is None
    log_file.write_bytes(b"x" * 10)
    assert (wal.size_of(database), wal.trouble(database)) == (10, None)
    log_file.write_bytes(b"x" * 11)
    assert f"write-ahead log of {database}" in str(wal.trouble(database))


async def test_a_watch_says_it_once_and_when_it_is_over(
    log_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning while it lasts, with what to do; one word when it has its size again."""
    caplog.set_level(logging.INFO)
    await asyncio.to_thread(log_file.write_bytes, b"x" * 11)
    async with wal.watched(log_file.with_name("some.db")):
        await _until(caplog, 1)
        for _ in range(50):
            await asyncio.sleep(0)
        await asyncio.to_thread(log_file.unlink)
        await _until(caplog, 2)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert wal.ADVICE in caplog.records[0].getMessage()


async def test_a_server_has_nothing_to_watch() -> None:
    """On PostgreSQL there is no file."""
    async with wal.watched(None):
        assert len(asyncio.all_tasks()) == 1


async def _until(caplog: pytest.LogCaptureFixture, count: int) -> None:
    async with asyncio.timeout(10):
        while len(caplog.records) < count:
            await asyncio.sleep(0)
