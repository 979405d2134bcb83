"""What an error of the target means: this row will not do, this target will not do, or not now."""

from __future__ import annotations

import re
from typing import Any, Final

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from jobdeck import Discard, Retry

# Classes of SQLSTATE: data exception, constraint violation, program limit (a key too long for an index), raised by
# a trigger.
_ROW: Final = ("22", "23", "54", "P0")
# Feature not supported, wrong password, no such database, dependent objects, access rule or syntax, no such role.
_TARGET: Final = ("0A", "28", "2B", "3D", "42", "22", "23", "P0")
# Primary result codes of SQLite: SQL error, permission, read-only, corrupt, cannot open, too big, mismatch,
# constraint, not a database.
_SQLITE_TARGET: Final = frozenset({1, 3, 8, 11, 14, 18, 19, 20, 23, 26})

# SQLAlchemy puts the class of the driver's error before its text.
_CLASS: Final = re.compile(r"^<class '[^']*'>: ")


def refuses_the_row(error: StatementError) -> bool:
    """Whether the database, or its driver, took offence at the values alone, so that other rows may pass."""
    if not isinstance(error, DBAPIError):
        return isinstance(error.orig, ValueError | TypeError)
    if error.connection_invalidated:
        return False
    if isinstance(error, IntegrityError | DataError):
        return True
    state = sqlstate(error)
    # asyncpg refuses some values itself, before it sends them; then there is no SQLSTATE.
    return state[:2] in _ROW if state else isinstance(getattr(error.orig, "__cause__", None), ValueError)


def reason(error: Exception) -> str:
    """What the database says, in one line and without the statement and its values."""
    text = _CLASS.sub("", str(getattr(error, "orig", None) or error)).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__


def is_of_target(error: Exception) -> bool:
    """Whether the error comes from the target or the way to it; the driver's own are not wrapped at connect."""
    return isinstance(error, DBAPIError | OSError) or bool(sqlstate(error))


def verdict(error: Exception) -> Discard | Retry:
    """The outcome of an attempt that an error of the target ended."""
    text = f"the target database: {reason(error)}"
    return Discard(text) if _is_final(error) else Retry(text)


def _is_final(error: Exception) -> bool:
    state = sqlstate(error)
    if state:
        return state[:2] in _TARGET
    code = getattr(getattr(error, "orig", error), "sqlite_errorcode", None)
    return isinstance(code, int) and code & 0xFF in _SQLITE_TARGET


def sqlstate(error: Exception) -> str:
    """The SQLSTATE of an error of PostgreSQL, wrapped by SQLAlchemy or not; empty for other errors."""
    for each in (error, getattr(error, "orig", None)):
        state: Any = getattr(each, "sqlstate", None) or getattr(each, "pgcode", None)
        if isinstance(state, str):
            return state
    return ""
