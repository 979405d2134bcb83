"""The file of a backup: a SQLite database of jobdeck's own schema, whatever database it comes from and goes to."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import URL, Connection, Table, create_engine, select, text
from sqlalchemy.pool import NullPool

from jobdeck.errors import Conflict, ValidationError
from jobdeck.store.revision import HEAD, current, wrong_revision
from jobdeck.store.schema import metadata

ROWS_AT_ONCE: Final = 1_000
_OF_PROCESSES: Final = frozenset({"commit_marks", "workers"})
"""What is true of the processes on one database alone, and is not carried to another."""
_HEADER: Final = b"SQLite format 3\0"
# Bytes 18 and 19 of the file: 1 without a write-ahead log, 2 with one.
_NO_WAL: Final = b"\1\1"


count_runs: Final = text("SELECT count(*) FROM runs")
"""Of whatever schema."""


def file_of(url: URL) -> Path | None:
    """The file of a SQLite database; None of a server's."""
    return Path(url.database or "").expanduser().absolute() if url.get_backend_name() == "sqlite" else None


def carried() -> list[Table]:
    """The tables that a backup holds, each after those that it refers to."""
    return [table for table in metadata.sorted_tables if table.name not in _OF_PROCESSES]


@contextmanager
def beside(target: Path) -> Iterator[Path]:
    """An empty private file in the same folder; at the end of the block, with its contents on the disk, the target.

    Where the block fails, nothing is left and the target is what it was. Raises ValidationError for a folder that is
    not there or cannot be written.
    """
    try:
        number, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
    except OSError as error:
        raise ValidationError(f"{target} cannot be written: {error.strerror}", field="file") from None
    os.close(number)
    made = Path(name)
    try:
        yield made
        _to_disk(made)
        made.replace(target)
        _to_disk(target.parent)
    finally:
        for left in (made, *(Path(f"{made}-{kind}") for kind in ("wal", "shm", "journal"))):
            with suppress(FileNotFoundError):
                left.unlink()


def _to_disk(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def check_target(target: Path, *, overwrite: bool, database: Path | None) -> None:
    """Refuse to write a backup over a database, or over anything that was not said to be in the way."""
    if database is not None and target.exists() and target.samefile(database):
        raise ValidationError(f"{target} is the database itself; name another file", field="file")
    if target.is_dir():
        raise ValidationError(f"{target} is a folder; name a file in it", field="file")
    if not overwrite and (target.exists() or target.is_symlink()):
        raise Conflict(f"there is already a file {target}; --force overwrites it")


def seal(path: Path) -> None:
    """Make a finished file one that stands alone and is whole. Raises ValidationError where it is not."""
    with sqlite3.connect(path, isolation_level=None) as conn:
        conn.execute("PRAGMA journal_mode=DELETE")
    conn.close()
    check_whole(path)


def check_whole(path: Path) -> None:
    """Raise ValidationError for a file that SQLite finds damaged."""
    conn = sqlite3.connect(_uri(path), uri=True)
    try:
        (said,) = conn.execute("PRAGMA integrity_check(1)").fetchone()
        dangling = conn.execute("PRAGMA foreign_key_check").fetchone()
    except sqlite3.DatabaseError as error:
        said, dangling = str(error), None
    finally:
        conn.close()
    if said != "ok" or dangling is not None:
        raise ValidationError(f"{path} is damaged: {dangling or said}", field="file")


@contextmanager
def readable(source: Path) -> Iterator[Path]:
    """A file of today's schema with the contents of the backup: itself, or a copy that was upgraded.

    Raises ValidationError for a file that is no backup, WrongRevision for one of a newer jobdeck.
    """
    _check_kind(source)
    check_whole(source)
    with reading(source) as conn:
        found = current(conn)
    if found is None:
        raise ValidationError(f"{source} is no backup of jobdeck: it has none of its tables", field="file")
    if found > HEAD:
        raise wrong_revision(found)
    if found == HEAD:
        yield source
        return
    from jobdeck.store.open import upgrade_file

    with tempfile.TemporaryDirectory(prefix="jobdeck-restore-") as folder:
        copy = Path(folder) / "backup.db"
        copy.touch(0o600)
        with source.open("rb") as old, copy.open("wb") as new:
            while piece := old.read(1 << 20):
                new.write(piece)
        upgrade_file(copy)
        yield copy


def _check_kind(source: Path) -> None:
    try:
        with source.open("rb") as file:
            head = file.read(20)
    except OSError as error:
        raise ValidationError(f"{source} cannot be read: {error.strerror}", field="file") from None
    if not head.startswith(_HEADER):
        raise ValidationError(
            f"{source} is no backup of jobdeck; make one with: jobdeck db backup", field="file"
        )
    if head[18:20] != _NO_WAL:
        raise ValidationError(
            f"{source} is a database in use, not a backup of one; make one with: jobdeck db backup",
            field="file",
        )


@contextmanager
def reading(path: Path) -> Iterator[Connection]:
    """A connection that reads the file, in one transaction."""
    engine = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(_uri(path), uri=True, check_same_thread=False),
        poolclass=NullPool,
    )
    with engine.connect() as conn:
        yield conn


def _uri(path: Path) -> str:
    return f"file:{quote(str(path.absolute()))}?mode=ro"


def rows_of(conn: Connection, table: Table) -> Iterator[Sequence[Mapping[str, Any]]]:
    """All rows of a table, some at a time."""
    found = conn.execution_options(yield_per=ROWS_AT_ONCE).execute(select(table))
    for rows in found.mappings().partitions(ROWS_AT_ONCE):
        yield [dict(row) for row in rows]
