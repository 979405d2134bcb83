"""The rows to ask about, from an NDJSON file: staged in a private temporary table, which sorts and counts them.

The file is a regular one in the project's own folder, to which `export` writes too: `projects/TEAM/PROJECT/` in the
data folder, `projects/TEAM/_team/` for runs outside projects. No other path can be named and no link is followed.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

from sqlalchemy import Connection

from jobdeck import Context, Discard
from jobdeck_handlers.databases.target import Target
from jobdeck_handlers.llm_batch.table_input import PROMPT_BYTES, TableInput

LINE_BYTES: Final = 4 * PROMPT_BYTES
"""Longest line that is read."""
_LINES: Final = 500
_BATCH_BYTES: Final = 1024 * 1024
_TABLE: Final = "staged"
_INT64: Final = 2**63

_Staged: TypeAlias = tuple[str | int | None, ...]


@asynccontextmanager
async def staged_file(ctx: Context, name: str, key: str, columns: Sequence[str]) -> AsyncIterator[TableInput]:
    """The rows of a file. Raises Discard for one that cannot be used, with the line that is wrong."""
    from sqlalchemy.ext.asyncio import create_async_engine

    with _opened(_folder(ctx.settings), name) as file:
        # An empty name: SQLite's own temporary file, which nobody else can open and which ends with its connection.
        engine = create_async_engine(
            "sqlite+aiosqlite:///file:?uri=true", pool_size=1, max_overflow=0, hide_parameters=True
        )
        try:
            target = Target(engine)
            lines = _Lines(file, name, key, columns)
            await target.transact(partial(_create, key=key, count=len(columns)))
            while rows := lines.some():
                ctx.raise_if_cancelled()
                await target.transact(partial(_insert, rows=rows))
            lines.refuse_unknown()
            await target.transact(partial(_index, key=key))
            yield TableInput(target, _TABLE, key, _staged_names(columns), label=name)
        finally:
            await engine.dispose()


def _folder(settings: Mapping[str, Any]) -> Path:
    folder = settings.get("files_folder")
    if not folder:
        raise Discard("this worker has no folder for the project's files")
    return Path(str(folder))


def _opened(folder: Path, name: str) -> BinaryIO:
    try:
        at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            # Not blocking: the open of a pipe would wait for somebody to write to it.
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
        finally:
            os.close(at)
    except OSError as error:
        raise Discard(f"the file {name} cannot be read in {folder}: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise Discard(f"{name} in {folder} is no regular file")
    return os.fdopen(file, "rb")


class _Lines:
    """Reads and checks the lines of one file."""

    def __init__(self, file: BinaryIO, name: str, key: str, columns: Sequence[str]) -> None:
        self._file = file
        self._name = name
        self._key = key
        self._columns = columns
        self._unseen = set(columns)
        self._at = 0

    def some(self) -> list[_Staged]:
        """The next rows, as they are staged; none at the end of the file. Raises Discard."""
        rows: list[_Staged] = []
        end = self._file.tell() + _BATCH_BYTES
        while len(rows) < _LINES and self._file.tell() < end:
            line = self._file.readline(LINE_BYTES + 1)
            if not line:
                break
            self._at += 1
            if line.strip():
                rows.append(self._row(line))
        return rows

    def refuse_unknown(self) -> None:
        """Raise Discard for a name that no row has. A row that lacks one has it empty, as NULL is."""
        if self._at and self._unseen:
            unknown = ", ".join(sorted(each[:60] for each in self._unseen))
            raise Discard(f"no row of {self._name} has {unknown}")

    def _row(self, line: bytes) -> _Staged:
        if len(line) > LINE_BYTES:
            raise self._wrong(f"is longer than {LINE_BYTES:,} bytes")
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self._wrong(f"is not JSON: {error!s:.100}") from None
        if not isinstance(row, dict):
            raise self._wrong("is no JSON object")
        self._unseen.difference_update(row)
        return self._checked_key(row.get(self._key)), *(_text(row.get(each)) for each in self._columns)

    def _checked_key(self, key: Any) -> str | int | None:
        if key is None:
            return None
        if isinstance(key, int) and not isinstance(key, bool) and -_INT64 <= key < _INT64:
            return key
        if isinstance(key, str) and "\x00" not in key and _is_text(key):
            return key
        raise self._wrong(f"has neither a whole number nor text as {self._key}")

    def _wrong(self, problem: str) -> Discard:
        return Discard(f"line {self._at:,} of {self._name} {problem}")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    # Half a surrogate pair is no text: neither the temporary table nor the endpoint would take it.
    return text.encode(errors="replace").decode()


def _staged_names(columns: Sequence[str]) -> dict[str, str]:
    # Fields may differ in upper and lower case alone, or have names that no column can have. No key is a number.
    return {name: str(at) for at, name in enumerate(columns)}


def _create(conn: Connection, key: str, count: int) -> None:
    # The key has no declared type, so that it stays what it was in the file.
    columns = "".join(f', "{at}" TEXT' for at in range(count))
    conn.exec_driver_sql(f'CREATE TABLE {_TABLE} ("{key}"{columns})')


def _insert(conn: Connection, rows: Sequence[_Staged]) -> None:
    marks = ", ".join("?" * len(rows[0]))
    conn.exec_driver_sql(f"INSERT INTO {_TABLE} VALUES ({marks})", list(rows))  # noqa: S608  names of our own


def _index(conn: Connection, key: str) -> None:
    conn.exec_driver_sql(f'CREATE INDEX by_key ON {_TABLE} ("{key}")')
