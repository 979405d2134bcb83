"""`python -m tests.faults.launch …` is `jobdeck …` with something in it that the environment names.

A kill point, a host with a clock of its own, another version of SQLite.
"""

from __future__ import annotations

import os
import sqlite3

from jobdeck.cli import main
from tests.faults import hostclock, killpoints
from tests.faults.workers import SQLITE_VARIABLE

if __name__ == "__main__":
    hostclock.install()
    killpoints.install()
    if version := os.environ.get(SQLITE_VARIABLE):
        vars(sqlite3).update(sqlite_version=version, sqlite_version_info=tuple(map(int, version.split("."))))
    main()
