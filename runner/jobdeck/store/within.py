"""A run stored inside a transaction that belongs to somebody else: it exists if and only if that one commits.

The connection is the caller's, by SQLAlchemy, to the database that jobdeck works with. What is done here stands inside
a savepoint, so an error leaves the transaction as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Transaction, event, select
from sqlalchemy.exc import DBAPIError

from jobdeck.errors import ConfigError, JobdeckError
from jobdeck.model import NewRun
from jobdeck.people import Permission
from jobdeck.store.audit.acts import Act, write_acts
from jobdeck.store.differences import Differences
from jobdeck.store.enqueue import enqueue
from jobdeck.store.failures import is_transient, sqlstate, translate
from jobdeck.store.jobs.chain_starts import start_dependants
from jobdeck.store.lists.counts import write_counts
from jobdeck.store.members import lacks
from jobdeck.store.schema import teams
from jobdeck.store.sqlite.differences import SqliteDifferences
from jobdeck.store.transaction import Hint, Rank, Tx, verb

# As in a transaction of jobdeck's own: each time another one has just committed what stands in the way.
_TRIES: Final = 4
_NO_TABLE: Final = "42P01"


def enqueue_within(
    conn: Connection, run: NewRun, tell: Callable[[Hint], None], act: Act | None = None, offset_us: int = 0
) -> UUID:
    """The id of the run, or of the one that stands for it. Workers learn of it when the transaction has committed.

    `act` is what the audit says of it. `tell` is called where the database itself cannot say so: as the caller's
    transaction commits.
    Raises what `enqueue` gives as an error; NotFound and Forbidden where the actor of `act` may not; ConfigError for a
    connection that jobdeck cannot work on.
    """
    differences = _differences_of(conn)
    _begin(conn)
    tx = Tx(conn, differences.now(conn, offset_us), differences)
    run_id = _stored(tx, run, act)
    if tx.hints and conn.dialect.name == "postgresql":
        from jobdeck.store.postgres.callers import notify_at_commit

        notify_at_commit(conn, tx.hints)
    elif tx.hints:
        _tell_at_commit(conn, tx.hints, tell)
    return run_id


def _differences_of(conn: Connection) -> Differences:
    name, driver = conn.dialect.name, conn.dialect.driver
    if name == "sqlite" and driver in ("pysqlite", "aiosqlite"):
        return SqliteDifferences()
    if name != "postgresql" or driver not in ("asyncpg", "psycopg", "psycopg_async"):
        raise ConfigError(
            f"a run is stored over pysqlite, aiosqlite, psycopg or asyncpg, not over {name}+{driver}"
        )
    session = conn.connection.dbapi_connection
    if session is not None and conn.dialect.detect_autocommit_setting(session):
        raise ConfigError(
            "this connection commits every statement by itself; open a transaction without that"
        )
    # Here, because they bring a dialect that a SQLite file does without.
    from jobdeck.store.postgres.callers import OverAsyncpg, OverPsycopg

    return OverAsyncpg() if driver == "asyncpg" else OverPsycopg()


def _begin(conn: Connection) -> None:
    """Have the transaction that SQLAlchemy speaks of really begin.

    Python's driver for SQLite begins one at the first change. A savepoint that comes before would be the transaction,
    and to release it would commit.
    """
    if not conn.in_transaction():
        conn.begin()
    if conn.dialect.name != "sqlite":
        return
    driver: Any = conn.connection.driver_connection
    if not driver.in_transaction:
        conn.exec_driver_sql("BEGIN IMMEDIATE")


def _stored(tx: Tx, run: NewRun, act: Act | None) -> UUID:
    for left in reversed(range(_TRIES)):
        try:
            with tx.attempt():
                return _store(tx, run, act)
        except DBAPIError as error:
            if not (left and is_transient(error)):
                raise _failure(error) from error
    raise AssertionError("unreachable")


def _store(tx: Tx, run: NewRun, act: Act | None) -> UUID:
    # Else the error would be about a project that does not exist, or worse, there would be none.
    if tx.conn.execute(select(teams.c.id).where(teams.c.id == run.team_id)).first() is None:
        raise _elsewhere()
    if act is not None and act.team_id is not None:
        refused = lacks(tx, act.team_id, act.actor, Permission.JOBS_WRITE)
        if refused is not None:
            raise refused
    (result,) = enqueue(tx, [run])
    if isinstance(result, JobdeckError):
        raise result
    start_dependants(tx)
    if act is not None:
        write_acts(tx, [(act, [run], [result])])
    write_counts(tx)
    return result


def _failure(error: DBAPIError) -> Exception:
    if sqlstate(error) == _NO_TABLE or "no such table" in str(error.orig):
        return _elsewhere()
    return translate(error)


def _elsewhere() -> ConfigError:
    return ConfigError("this connection does not lead to the database that this jobdeck works with")


class _News(NamedTuple):
    """What is to be told as a transaction commits."""

    transaction: Transaction | None
    hints: Hint
    tell: Callable[[Hint], None]


_news: Final[WeakKeyDictionary[Connection, _News]] = WeakKeyDictionary()


def _tell_at_commit(conn: Connection, hints: Hint, tell: Callable[[Hint], None]) -> None:
    before = _news.get(conn)
    mine = conn.get_transaction()
    if before is None:
        event.listen(conn, "commit", _committing)
    elif before.transaction is mine:
        hints |= before.hints
    _news[conn] = _News(mine, hints, tell)


def _committing(conn: Connection) -> None:
    news = _news.get(conn)
    # The same connection may have been rolled back and have begun another transaction since.
    if news is not None and news.transaction is conn.get_transaction():
        news.tell(news.hints)


@verb(Rank.CHANGE)
def announce(tx: Tx, items: Sequence[Hint]) -> Sequence[None]:
    """Give hints on behalf of a transaction that is committing: on SQLite this one comes after it."""
    for item in items:
        tx.hint(item)
    return [None] * len(items)
