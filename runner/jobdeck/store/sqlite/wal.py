"""The write-ahead log of a SQLite file: how large it is, and a word when somebody keeps it from shrinking.

SQLite can only start it over when no reader needs what is in it. A program that keeps a read transaction open makes
it grow with every commit, until the disk is full.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

_log = logging.getLogger("jobdeck.store.sqlite.wal")

ALARM_BYTES: Final = 64 * 1024 * 1024
"""Of orderly use it has about 4 MiB (1,000 pages); SQLite cuts it back to this size when it starts it over."""
ADVICE: Final = "end the program that keeps a read transaction open on the file"
# Seconds; a look is one stat().
_LOOK_EVERY: Final = 2.0
_MIB: Final = 1024 * 1024


def size_of(database: Path) -> int:
    """Bytes of the write-ahead log; 0 where there is none."""
    try:
        return database.with_name(f"{database.name}-wal").stat().st_size
    except OSError:
        return 0


def trouble(database: Path) -> str | None:
    """What is wrong with its size, in a line; None where nothing is."""
    size = size_of(database)
    if size <= ALARM_BYTES:
        return None
    return f"the write-ahead log of {database} has {size // _MIB:,} MiB and cannot be started over"


@asynccontextmanager
async def watched(database: Path | None) -> AsyncIterator[None]:
    """Inside the block, a warning when the log of this file is too large and a word when it no longer is."""
    if database is None:
        yield
        return
    task = asyncio.create_task(_watch(database))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _watch(database: Path) -> None:
    warned = False
    while True:
        found = trouble(database)
        if found is not None and not warned:
            _log.warning("%s: %s", found, ADVICE)
        elif found is None and warned:
            _log.info("the write-ahead log of %s has its usual size again", database)
        warned = found is not None
        await asyncio.sleep(_LOOK_EVERY)
