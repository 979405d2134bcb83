"""Which SQLite this Python is linked with, and whether it can be trusted with a file."""

from __future__ import annotations

import sqlite3
from typing import Final

# The WAL-reset bug came with 3.7.0 and is mended in 3.51.3 (2026-03-13), says the changelog of SQLite.
_WAL_BUG_FROM: Final = (3, 7, 0)
_WAL_BUG_FIXED: Final = (3, 51, 3)
ADVICE: Final = "use a Python linked with SQLite 3.51.3 or newer, and keep backups"


def trouble() -> str | None:
    """What is wrong with this SQLite, in a line; None where nothing is known."""
    if _WAL_BUG_FROM <= sqlite3.sqlite_version_info < _WAL_BUG_FIXED:
        return f"{sqlite3.sqlite_version} has the WAL-reset bug, which can corrupt a file after a crash"
    return None
