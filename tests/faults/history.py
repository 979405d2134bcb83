"""What the database says happened: the tables read whole, by a connection that is not jobdeck's own."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Connection, Engine, Table, create_engine, event, func, make_url, select, text
from sqlalchemy.pool import NullPool

from jobdeck.states import ACTIVE, Status
from jobdeck.store.schema import attempts, leases, run_events, runs, workers

Row: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class History:
    """The rows of one moment; `now` is the database's clock then, microseconds UTC."""

    now: int
    runs: Sequence[Row]
    leases: Sequence[Row] = ()
    attempts: Sequence[Row] = ()
    events: Sequence[Row] = ()
    workers: Sequence[Row] = ()

    @property
    def by_id(self) -> dict[str, Row]:
        """The runs by their id, 32 hexadecimal digits; made anew each time."""
        return {row["id"].hex: row for row in self.runs}

    def attempts_of(self) -> dict[str, list[Row]]:
        """The attempts of each run by fence."""
        return _by_run(sorted(self.attempts, key=lambda row: row["fence"]))

    def events_of(self) -> dict[str, list[Row]]:
        """The events of each run in the order they were written."""
        return _by_run(sorted(self.events, key=lambda row: row["id"]))


def key_of(run: Row) -> str | None:
    """What the enqueuer called this run."""
    key: str | None = json.loads(run["params"]).get("key")
    return key


def dump(url: str) -> History:
    """Read every table in one snapshot. `url` is as in jobdeck's settings; a driver in it is not used."""
    with _snapshot(url) as conn:
        found = [_rows(conn, table) for table in (runs, leases, attempts, run_events, workers)]
        return History(_now(conn), *found)


def unsettled(url: str) -> int:
    """How many runs wait, with nothing to wait for but a worker, or run."""
    with _snapshot(url) as conn:
        active = runs.c.status.in_(ACTIVE) & (
            (runs.c.status != Status.PENDING) | (runs.c.due_at <= _now(conn))
        )
        return int(conn.execute(select(func.count()).select_from(runs).where(active)).scalar_one())


def plain_engine(url: str) -> Engine:
    """An engine that has nothing to do with jobdeck's own: another driver, no pool."""
    parsed = make_url(url)
    driver = "postgresql+psycopg" if parsed.get_backend_name() == "postgresql" else "sqlite"
    engine = create_engine(parsed.set(drivername=driver), poolclass=NullPool)
    if engine.dialect.name == "sqlite":
        # The rows may hold what is no text at all.
        event.listen(engine, "connect", _read_any_text)
    return engine


def _read_any_text(connection: Any, _record: Any) -> None:
    connection.text_factory = lambda stored: stored.decode("utf-8", "replace")


@contextmanager
def _snapshot(url: str) -> Iterator[Connection]:
    engine = plain_engine(url)
    on_postgres = engine.dialect.name == "postgresql"
    if on_postgres:
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    with engine.connect() as conn:
        if not on_postgres:
            conn.exec_driver_sql("BEGIN")
        yield conn


def _rows(conn: Connection, table: Table) -> list[Row]:
    return [dict(row) for row in conn.execute(select(table)).mappings()]


def _now(conn: Connection) -> int:
    if conn.dialect.name == "sqlite":
        return time.time_ns() // 1000
    query = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
    return int(conn.execute(query).scalar_one())


def _by_run(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["run_id"].hex].append(row)
    return found
