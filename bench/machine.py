"""What was measured on: the machine, its software, and how quiet it was."""

from __future__ import annotations

import os
import platform
import sqlite3
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

_OURS = ("jobdeck", "sqlalchemy", "aiosqlite", "asyncpg", "pydantic")
_MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs", "devtmpfs"})
# Long enough for some hundred commits, short beside what is measured between two of them.
_COMMIT_SECONDS = 0.15
_LOOP_STEPS = 400_000


@dataclass(frozen=True, slots=True)
class Calibration:
    """The machine at one moment: a loop that is always the same."""

    commits_per_second: float
    """Durable SQLite commits of one small row, one by one."""
    loop_ms: float
    """A fixed loop of plain Python."""


def calibrate(folder: Path) -> Calibration:
    """Take about 0.2 s to see how fast this machine is right now."""
    return Calibration(_commits(folder / "calibration.db"), _loop())


def _commits(path: Path) -> float:
    conn = sqlite3.connect(path, isolation_level=None)
    conn.execute("PRAGMA journal_mode=WAL")
    conn.execute("PRAGMA synchronous=FULL")
    conn.execute("CREATE TABLE IF NOT EXISTS t (x INTEGER)")
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < _COMMIT_SECONDS:
        conn.execute("INSERT INTO t VALUES (1)")
        done += 1
    rate = done / (time.perf_counter() - started)
    conn.close()
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return rate


def _loop() -> float:
    started, total = time.perf_counter(), 0
    for step in range(_LOOP_STEPS):
        total += step & 3
    return (time.perf_counter() - started) * 1e3


def machine(folder: Path) -> dict[str, Any]:
    """Facts that figures depend on; no name of the machine or of anybody is among them."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "kernel": platform.release(),
        "file_system": file_system(folder),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **{name: version(name) for name in _OURS},
    }


def file_system(folder: Path) -> str:
    """The type of the file system a folder lies on."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    above = [(Path(fields[1]), fields[2]) for fields in mounts]
    real = folder.resolve()
    # Where two are mounted at one place, the later one is seen.
    _, kind = max(
        ((place, kind) for place, kind in above if real.is_relative_to(place)),
        key=lambda mount: len(mount[0].parts),
    )
    return kind


def is_in_memory(folder: Path) -> bool:
    """Whether nothing that is written there reaches a disk."""
    return file_system(folder) in _MEMORY_FILE_SYSTEMS


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
