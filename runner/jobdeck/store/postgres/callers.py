"""PostgreSQL over a connection that a program of one's own has opened, by asyncpg or by psycopg."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from sqlalchemy import Connection, Dialect, func, select
from sqlalchemy.dialects.postgresql import psycopg

from jobdeck.store.postgres.differences import CHANNEL, PostgresDifferences
from jobdeck.store.transaction import Hint

# Rows of counters beside those of jobdeck's own transactions, which never wait for them: a caller's may last.
_SLOTS: Final = range(100, 1_100)


class OverAsyncpg(PostgresDifferences):
    """See `Differences`."""

    def count_slot(self) -> int:
        return random.choice(_SLOTS)


class OverPsycopg(OverAsyncpg):
    """The same, with the places of values as psycopg wants them."""

    dialect: ClassVar[Dialect] = psycopg.dialect(paramstyle="format")  # type: ignore[no-untyped-call]

    def execute(self, conn: Connection, sql: str, bound: Sequence[Any]) -> Sequence[Sequence[Any]]:
        # A tuple would be a row and not an array.
        return super().execute(conn, sql, [list(each) if isinstance(each, tuple) else each for each in bound])


def notify_at_commit(conn: Connection, hints: Hint) -> None:
    """The server tells it to whoever listens when the transaction has committed, and never where it does not."""
    conn.execute(select(func.pg_notify(CHANNEL, f"{hints.value} ")))
