"""Engines of a SQLite file: how its connections are set up, and how long they wait for each other.

`BEGIN IMMEDIATE` is the only form in which no process loses a race or starves (measured), and FULL is what makes an
accepted run durable.
"""

from __future__ import annotations

import errno
import os
import random
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import NullPool, QueuePool

from jobdeck.errors import ConfigError, DatabaseRefused

_BUSY_PAUSE = 0.002
_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "wal_autocheckpoint=4000",
    "journal_size_limit=67108864",
    "trusted_schema=OFF",
)


def writer_engine(path: Path, busy_timeout: float = 5.0) -> Engine:
    """The engine of the one writing connection: every transaction begins IMMEDIATE."""
    # A path is no part of a URL as it stands: in one, `?` and `%41` mean something.
    url = URL.create("sqlite", database=str(path))
    engine = create_engine(
        url,
        poolclass=NullPool,
        connect_args={"timeout": 0, "check_same_thread": False},
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, record: Any) -> None:
        # The first to open a new file changes it to WAL and locks the others out meanwhile.
        _patiently(lambda: _configure(connection, record), busy_timeout)

    @event.listens_for(engine, "begin")
    def _begin(conn: Connection) -> None:
        driver: Any = conn.connection.dbapi_connection
        _patiently(lambda: driver.execute("BEGIN IMMEDIATE"), busy_timeout)

    return engine


def _patiently(attempt: Callable[[], object], busy_timeout: float) -> None:
    """Try until the file is free. Short random pauses instead of SQLite's growing ones: no process is starved."""
    deadline = time.monotonic() + busy_timeout
    while True:
        try:
            attempt()
        except Exception as error:
            name = getattr(getattr(error, "orig", error), "sqlite_errorname", "")
            if not str(name).startswith("SQLITE_BUSY") or time.monotonic() >= deadline:
                raise
            time.sleep(random.uniform(0.0, 2 * _BUSY_PAUSE))
        else:
            return


def reader_engine(path: Path, busy_timeout: float, size: int) -> Engine:
    """Readers: short deferred transactions that cannot write, on at most `size` connections."""
    url = URL.create("sqlite", database=str(path))
    engine = create_engine(
        url,
        poolclass=QueuePool,
        connect_args={"timeout": busy_timeout, "check_same_thread": False},
        pool_size=size,
        max_overflow=0,
        hide_parameters=True,
    )
    event.listen(engine, "connect", _configure)

    @event.listens_for(engine, "connect")
    def _read_only(connection: Any, _record: Any) -> None:
        _pragma(connection, "query_only=ON")
        # SQLite's own knows ASCII only.
        connection.create_function("lower", 1, _lower, deterministic=True)

    @event.listens_for(engine, "begin")
    def _begin(conn: Connection) -> None:
        conn.exec_driver_sql("BEGIN")

    return engine


def _configure(connection: Any, _record: Any) -> None:
    # First of all: pragmas only work outside a transaction, and the driver's own mode would open one.
    connection.isolation_level = None
    connection.text_factory = _text
    for pragma in _PRAGMAS:
        _pragma(connection, pragma)
    for name, wanted in (("journal_mode", "wal"), ("foreign_keys", 1), ("synchronous", 2)):
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA {name}")
        found = cursor.fetchone()[0]
        cursor.close()
        if found != wanted:
            raise DatabaseRefused(
                f"SQLite refuses {name}={wanted} for this file (it says {found}); is it on a network file system?"
            )


def _text(stored: bytes) -> str:
    # SQLite keeps any bytes as a text. The driver's own way fails at the first bad ones, so that one row that somebody
    # else has written would keep all others from being read.
    return stored.decode("utf-8", "replace")


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()


def _pragma(connection: Any, pragma: str) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def prepare_file(path: Path) -> None:
    """Make the file private before SQLite opens it; refuse one that is a link or belongs to somebody else.

    A file that is there is looked at and never opened: to close it again would take away the locks of all connections
    that this process has to it, and another process might then remove the log that they go on writing.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            _check_file(path)
    except OSError as error:
        raise DatabaseRefused(f"the database file {path} cannot be opened: {error.strerror}") from None


def _check_file(path: Path) -> None:
    facts = os.lstat(path)
    if stat.S_ISLNK(facts.st_mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if stat.S_ISDIR(facts.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if facts.st_uid not in (os.getuid(), 0) and os.getuid() != 0:
        raise ConfigError(f"the database file {path} belongs to another user")
    if not stat.S_ISREG(facts.st_mode):
        raise ConfigError(f"the database file {path} is not a regular file")
    if not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    if facts.st_size == 0:
        path.chmod(0o600)
