"""What an error of the database means for an export."""

from __future__ import annotations

import sqlite3
from typing import Final

from jobdeck import Discard
from jobdeck_handlers.databases.failures import reason, sqlstate, verdict

ONE_QUERY: Final = "an export is one query that reads: SELECT, or WITH … SELECT"

# Not an error of the query's text or data, which `verdict` knows: invalid transaction state (a write in a
# transaction that reads), no function with effects, a limit of the program.
_FINAL: Final = ("25", "2F", "38", "54")
_SYNTAX: Final = "42601"
_UNCLEAR: Final = "42P18"
_TIMED_OUT: Final = "57014"
_UNREADABLE: Final = "Could not decode to UTF-8"


def ending(error: Exception) -> Exception:
    """What to raise for an error of the database or of its driver."""
    if isinstance(error, sqlite3.Error | sqlite3.Warning):
        return _of_sqlite(error)
    state = sqlstate(error)
    if state == _TIMED_OUT:
        return TimeoutError("the database ended the query: it took longer than timeout")
    if state == _UNCLEAR:
        return Discard(f"{reason(error)}; write CAST(:name AS type) where PostgreSQL cannot tell")
    if state == _SYNTAX:
        return Discard(f"{reason(error)}; {ONE_QUERY}")
    if state[:2] in _FINAL:
        return Discard(f"the target database: {reason(error)}; {ONE_QUERY}")
    return verdict(error)


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another program has the file locked."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _of_sqlite(error: sqlite3.Error | sqlite3.Warning) -> Exception:
    text = str(error)
    if text.startswith(_UNREADABLE):
        # SQLite's own text goes on with the value.
        return Discard(f"{text.partition(' with text')[0]}; select it as CAST(… AS BLOB)")
    code = getattr(error, "sqlite_errorcode", None)
    # Without a code it is the driver that refuses: more than one statement.
    if (
        code is None
        or code & 0xFF in (sqlite3.SQLITE_AUTH, sqlite3.SQLITE_READONLY)
        or "syntax error" in text
    ):
        return Discard(f"{text}; {ONE_QUERY}")
    return verdict(error)
