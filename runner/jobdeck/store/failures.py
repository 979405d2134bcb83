"""What the drivers raise, in jobdeck's own words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from uuid import UUID

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from jobdeck.errors import DatabaseError, DatabaseFull, DatabaseRefused, DatabaseUnavailable, JobdeckError

_DEADLOCK = "40P01"
_SERIALIZATION = "40001"
# A verb looks before it inserts; this one looked before the other transaction committed, and will see it now.
_UNIQUE_VIOLATION = "23505"
# Classes of SQLSTATE: connection exception, operator intervention (shutdown, cancelled by a time limit), insufficient
# resources, a server that takes no writes (25006, after a failover), a lock not to be had.
_GONE = ("08", "57", "53", "25", "55P03")
# No right to write, no such role or password, no such database.
_REFUSED = ("42501", "28", "3D")
_DISK_FULL = "53100"


def sqlstate(error: BaseException) -> str:
    """The SQLSTATE behind an error of the PostgreSQL driver, or an empty text."""
    seen: BaseException | None = error
    while seen is not None:
        code = getattr(seen, "sqlstate", None)
        if isinstance(code, str):
            return code
        seen = getattr(seen, "orig", None) or seen.__cause__
    return ""


class Entangled(Exception):
    """Runs have to be locked that are not to be waited for any more, and somebody else has some of them."""

    def __init__(self, run_ids: Iterable[UUID]) -> None:
        super().__init__("runs that have to be locked are locked by somebody else, or are not there")
        self.run_ids = frozenset(run_ids)


def is_transient(error: BaseException) -> bool:
    """Whether the same transaction may be tried again at once: it lost against another one and was undone."""
    return isinstance(error, Entangled) or sqlstate(error) in (_DEADLOCK, _SERIALIZATION, _UNIQUE_VIOLATION)


def may_have_committed(error: BaseException) -> bool:
    """Whether a COMMIT that failed so may have been carried out: no answer came, or the server was going down."""
    code = sqlstate(error)
    return not code or code.startswith(("08", "57P"))


def concerns_all(error: Exception) -> bool:
    """Whether this is no fault of what is written: the transaction lost against another one, or the database refuses.

    Anything else may come from one row that is spoilt, and must not keep the others from what is theirs.
    """
    return is_transient(error) or isinstance(translate(error), DatabaseError)


def translate(error: Exception) -> Exception:
    """A DatabaseError where the database as a whole refuses; anything else as it is."""
    if isinstance(error, JobdeckError):
        return error
    if isinstance(error, DBAPIError) and isinstance(error.orig, sqlite3.Error):
        return _translate_sqlite(error.orig) or error
    if isinstance(error, sqlite3.Error):
        return _translate_sqlite(error) or error
    code = sqlstate(error)
    if code == _DISK_FULL:
        return DatabaseFull()
    if code in (_DEADLOCK, _SERIALIZATION):
        return DatabaseUnavailable(
            "the database is too busy: this lost against other transactions again and again"
        )
    if code.startswith(_GONE + _REFUSED) or isinstance(error, OSError | PoolTimeout | TimeoutError):
        return unreachable(error)
    if isinstance(error, InterfaceError) and not _is_about_a_value(error):
        return unreachable(error)
    if type(error).__name__ == "InternalClientError":
        # The driver's, of a session that the server has ended and not closed yet.
        return unreachable(error)
    # Without a statement it was the connecting that failed, or the commit.
    broken = isinstance(error, DBAPIError) and (error.connection_invalidated or error.statement is None)
    if broken or isinstance(error, OperationalError):
        return unreachable(error)
    return error


def _is_about_a_value(error: InterfaceError) -> bool:
    """Whether asyncpg could not encode what was to be written: it says so as it says that a session is closed."""
    return isinstance(error.orig is not None and error.orig.__cause__, ValueError)


def unreachable(error: BaseException) -> DatabaseUnavailable:
    """The error for a database that cannot be reached, with what the driver says."""
    kind = DatabaseRefused if sqlstate(error).startswith(_REFUSED) else DatabaseUnavailable
    return kind(f"the database cannot be reached: {_first_line(error)}")


@contextmanager
def translated() -> Iterator[None]:
    """Whatever the drivers raise inside leaves as `translate` has it."""
    try:
        yield
    except Exception as error:
        failure = translate(error)
        if failure is error:
            raise
        raise failure from error


def _translate_sqlite(error: sqlite3.Error) -> Exception | None:
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith("SQLITE_FULL"):
        return DatabaseFull()
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return DatabaseUnavailable("another process holds the database's write lock for too long; try again")
    if name.startswith(
        (
            "SQLITE_IOERR",
            "SQLITE_CANTOPEN",
            "SQLITE_READONLY",
            "SQLITE_CORRUPT",
            "SQLITE_NOTADB",
            "SQLITE_PERM",
        )
    ):
        return DatabaseRefused(f"the database file cannot be used: {error}")
    return None


def _first_line(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return "it does not answer"
    text = str(getattr(error, "orig", None) or error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
