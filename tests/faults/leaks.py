"""I11: what a process holds, so that a case can prove that it holds no more afterwards than before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.faults.invariants import Breach

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Holdings:
    """Of one process, at one moment."""

    threads: int
    descriptors: int
    """Open files and sockets, connections to the database among them."""
    children: int
    rss_bytes: int


def holdings(pid: int) -> Holdings:
    """What the process has right now. Raises OSError where it is gone."""
    proc = Path(f"/proc/{pid}")
    children = (proc / f"task/{pid}/children").read_text().split()
    pages = int((proc / "statm").read_text().split()[1])
    return Holdings(
        threads=len(list((proc / "task").iterdir())),
        descriptors=len(list((proc / "fd").iterdir())),
        children=len(children),
        rss_bytes=pages * os.sysconf("SC_PAGE_SIZE"),
    )


def nothing_leaked(
    before: Holdings,
    after: Holdings,
    *,
    threads: int = 2,
    descriptors: int = 4,
    rss_bytes: int = 64 * _MIB,
) -> Iterator[Breach]:
    """Compare two quiet moments of a process. The margins are what pools and the allocator may keep for reuse."""
    grown = {
        "threads": (before.threads, after.threads, threads),
        "descriptors": (before.descriptors, after.descriptors, descriptors),
        "children": (before.children, after.children, 0),
        "bytes of memory": (before.rss_bytes, after.rss_bytes, rss_bytes),
    }
    for name, (old, new, margin) in grown.items():
        if new > old + margin:
            yield Breach("I11", "-", f"{name} grew from {old:,} to {new:,}")


def wal_bounded(database: Path, most: int = 64 * _MIB) -> Iterator[Breach]:
    """The write-ahead log of a SQLite file is not larger than `most` bytes."""
    wal = database.with_name(database.name + "-wal")
    size = wal.stat().st_size if wal.exists() else 0
    if size > most:
        yield Breach("I11", "-", f"the write-ahead log has {size:,} bytes")
