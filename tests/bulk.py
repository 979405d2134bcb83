"""A database with a long history, made by statements inside the database: a million runs in seconds.

What it holds is the same at every size but for the number of ended runs, so that a read can be compared between a
short history and a long one: what waits and what runs, what is rare, the tiny team.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    URL,
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    Subquery,
    Table,
    Text,
    case,
    cast,
    create_engine,
    event,
    func,
    insert,
    literal,
    make_url,
    select,
    text,
    true,
)
from sqlalchemy.pool import NullPool

from jobdeck.ids import new_id
from jobdeck.model import TeamScope
from jobdeck.states import TERMINAL, Status
from jobdeck.store.columns import Id
from jobdeck.store.differences import Differences
from jobdeck.store.open import database_of
from jobdeck.store.schema import (
    ORDINARY,
    attempts,
    leases,
    projects,
    run_counts,
    run_events,
    run_logs,
    runs,
    teams,
    workers,
)

RUNS: Final = 1_000_000
HISTORY_US: Final = 365 * 24 * 3_600 * 1_000_000
"""From the oldest run to the newest."""
LIVE: Final = {"approval": 20, "due": 2_000, "scheduled": 1_000, "retrying": 200, "running": 200}
"""The newest runs, all of them after one another."""
RARE: Final = 20
"""So many runs of the big team have a rare type, and as many others a rare queue, category, project and name."""
TINY: Final = 10
LINES: Final = 3
"""Log entries of each run that has some: a tenth of the runs, the newest that have ended."""
LONG_LOG: Final = 100_000
"""Entries in the log of the one run that said a lot."""
SERVED: Final = tuple(f"type{number}" for number in range(14))
"""What the one live worker takes; due runs of other types are held."""

# Shares in thousandths.
_TEAMS: Final = {"big": 800, "middle": 150, "small": 50}
_STATUSES: Final = {
    Status.COMPLETED: 960, Status.FAILED: 25, Status.CANCELLED: 10, Status.DEAD: 4, Status.EXPIRED: 1,
}  # fmt: skip
_TYPES: Final = {f"type{number}": 60 for number in range(16)} | {"system.cleanup": 40}
_QUEUES: Final = {"default": 700, "mail": 200, "bulk": 100}
_CATEGORIES: Final = {"sync": 700, "report": 250, "export": 50}
_PROJECTS: Final = {"web": 600, "shop": 300, "lab": 50, "": 50}
_PRIORITIES: Final = {5: 980, 1: 10, 9: 10}
_PARAMS: Final = {100: 995, 4_000: 4, 64_000: 1}
"""Characters of the params: most are short, some long."""


@dataclass(frozen=True, slots=True)
class Bulk:
    """What was made. Of the teams `big` has four of five runs, `tiny` ten, `empty` none."""

    now: int
    teams: Mapping[str, TeamScope]
    long_log: UUID
    """The run of `big` with the long log."""


def fill(url: str, number: int = RUNS, *, live: bool = True, analyze: bool = True) -> Bulk:
    """Fill a migrated, empty database that nobody has open. Without `live` every run has ended.

    `analyze` gathers the planner's statistics: a server does that by itself, SQLite never.
    """
    differences = database_of(url).differences
    with _connected(make_url(url)) as conn:
        made = _Filler(conn, differences, number, live).fill()
    after = [] if differences.name == "sqlite" else ["VACUUM"]
    with _connected(make_url(url), autocommit=True) as conn:
        for statement in [*after, "ANALYZE"] if analyze else after:
            conn.execute(text(statement))
    return made


@contextmanager
def _connected(url: URL, *, autocommit: bool = False) -> Iterator[Connection]:
    if url.get_backend_name() == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    engine = create_engine(url, poolclass=NullPool)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    with engine.connect() as conn:
        if autocommit:
            conn.execution_options(isolation_level="AUTOCOMMIT")
        yield conn
        conn.commit()


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # Made once and thrown away: if the machine dies meanwhile, nothing is lost.
    for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-262144", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {pragma}")
    connection.create_function("bulk_id", 2, _id_bytes, deterministic=True)


def _id_bytes(milliseconds: int, scatter: int) -> bytes:
    return (milliseconds << 80 | 0x7 << 76 | 0b10 << 62 | scatter).to_bytes(16, "big")


class _Filler:
    """One filling of one database."""

    def __init__(self, conn: Connection, differences: Differences, number: int, live: bool) -> None:
        self.conn = conn
        self.sqlite = differences.name == "sqlite"
        self.now = differences.now(conn, 0)
        self.number = number
        self.live = LIVE if live else dict.fromkeys(LIVE, 0)
        self.teams = {slug: TeamScope(new_id(), slug) for slug in (*_TEAMS, "tiny", "empty")}
        self.projects = {
            f"{team}/{slug}": new_id() for team in self.teams for slug in (*filter(None, _PROJECTS), "attic")
        }
        self.worker = {"worker_id": new_id(), "worker": "bulk:1"}

    def fill(self) -> Bulk:
        self._scopes()
        # Indexes are built in less time once the rows are there.
        later = sorted(runs.indexes, key=lambda index: str(index.name))
        for index in later:
            index.drop(self.conn)
        self._insert(runs, self._runs())
        for index in later:
            index.create(self.conn)
        self._insert(run_counts, self._counts())
        self._insert(leases, self._leases())
        for table, rows in (
            (attempts, self._attempts()),
            (run_events, self._events()),
            (run_logs, self._lines()),
        ):
            self._insert(table, rows)
        return Bulk(self.now, self.teams, self._long_log())

    def _insert(self, table: Table, rows: Select[Any]) -> None:
        self.conn.execute(insert(table).from_select(rows.selected_columns.keys(), rows))

    def _scopes(self) -> None:
        for scope in self.teams.values():
            row = {"id": scope.team_id, "slug": scope.slug, "name": scope.slug, "created_at": self.now}
            self.conn.execute(insert(teams), row)
        for name, project_id in self.projects.items():
            team, slug = name.split("/")
            row = {"id": project_id, "team_id": self.teams[team].team_id, "slug": slug, "name": slug}
            self.conn.execute(insert(projects), row | {"created_at": self.now})
        row = {
            "id": self.worker["worker_id"], "host": "bulk", "pid": 1, "version": "1", "queues": "[]",
            "job_types": json.dumps(SERVED), "slots": 1_000, "running": self.live["running"], "state": "live",
            "started_at": self.now, "seen_at": self.now, "alive_until": self.now + HISTORY_US,
        }  # fmt: skip
        self.conn.execute(insert(workers), row)

    # Runs

    def _runs(self) -> Select[Any]:
        fact = self._facts().c
        ended = fact.status.in_(TERMINAL)
        bad = fact.status.in_((Status.FAILED, Status.DEAD))
        completed = fact.status == Status.COMPLETED
        started = case((ended | (fact.status == Status.RUNNING), fact.created_at + 1_000_000))
        return select(
            self._id(fact.n, fact.created_at).label("id"),
            _by_name(fact.team, {slug: scope.team_id for slug, scope in self.teams.items()}).label("team_id"),
            _by_name(fact.team + "/" + fact.project, self.projects).label("project_id"),
            fact.status,
            fact.queue,
            fact.job_type,
            _choice(_pick(fact.n, 1, 1_000), _PRIORITIES).label("priority"),
            (fact.created_at + case((fact.part.in_(("scheduled", "retrying")), HISTORY_US), else_=0)).label(
                "due_at"
            ),
            fact.created_at,
            started.label("started_at"),
            case((ended, started + 1_000_000 * (1 + _pick(fact.n, 2, 300)))).label("finished_at"),
            case((ended | (fact.part.in_(("retrying", "running"))), 1), else_=0).label("fence"),
            case((ended | (fact.part.in_(("retrying", "running"))), 1), else_=0).label("attempt"),
            case((bad | (fact.part == "retrying"), 1), else_=0).label("failures"),
            fact.name,
            fact.category,
            literal("immediate").label("trigger_type"),
            literal("manual:ada").label("triggered_by"),
            case((_pick(fact.n, 3, 5) == 0, literal('{"source":"crm"}'))).label("tags"),
            _by_name(fact.size, {size: f'{{"source":"{"x" * size}"}}' for size in _PARAMS}).label("params"),
            case((completed, 180), else_=0).label("processed"),
            case((completed, 180)).label("total"),
            case((completed, "synced 180 users"), else_="").label("message"),
            case((bad, "error")).label("failure_kind"),
            case((bad, "HTTP 503 from the source")).label("error"),
            case((completed, '{"synced":180}')).label("result"),
            case(((fact.part == "running") & (fact.n % 10 == 0), self.now)).label("cancel_requested_at"),
        )

    def _facts(self) -> Subquery:
        """One row for each run: what it is, by names."""
        drawn = self._drawn().c
        part = self._part(drawn.n)
        spot = drawn.n % (self.number // RARE)
        tiny = drawn.n % (self.number // TINY) == 2
        waits = dict.fromkeys(("due", "scheduled", "retrying"), Status.PENDING)
        lives = {"approval": Status.AWAITING_APPROVAL, "running": Status.RUNNING} | waits
        return _apart(
            select(
                drawn.n,
                part.label("part"),
                (self.now - (self.number - drawn.n) * (HISTORY_US // self.number)).label("created_at"),
                case((spot < 2, "big"), (tiny, "tiny"), else_=_choice(drawn.team, _TEAMS)).label("team"),
                case((spot == 1, "attic"), else_=_choice(drawn.project, _PROJECTS)).label("project"),
                _by_name(part, lives, _choice(drawn.status, _STATUSES)).label("status"),
                case((spot == 1, "rare_queue"), else_=_choice(drawn.queue, _QUEUES)).label("queue"),
                case((spot == 1, "rare_category"), else_=_choice(drawn.category, _CATEGORIES)).label(
                    "category"
                ),
                case((spot == 0, "rare_type"), else_=_choice(drawn.job_type, _TYPES)).label("job_type"),
                (case((spot == 1, "needle "), else_="run ") + cast(drawn.n, Text)).label("name"),
                _choice(drawn.params, _PARAMS).label("size"),
            )
        )

    def _drawn(self) -> Subquery:
        n = _numbers(self.number)
        names = ("team", "project", "status", "queue", "category", "job_type", "params")
        lots = [_pick(n, salt, 1_000).label(name) for salt, name in enumerate(names, 20)]
        return _apart(select(n.label("n"), *lots))

    def _part(self, n: ColumnElement[int]) -> ColumnElement[str]:
        """Which part of the live runs run `n` belongs to; `ended` for most."""
        bound = self.number - sum(self.live.values())
        whens = [(n < bound, literal("ended"))]
        for name, count in self.live.items():
            bound += count
            whens.append((n < bound, literal(name)))
        return case(*whens)

    def _id(self, n: ColumnElement[int], created_at: ColumnElement[int]) -> ColumnElement[UUID]:
        milliseconds = created_at // 1_000
        scatter = _pick(n, 11, 1 << 30) * (1 << 30) + _pick(n, 12, 1 << 30)
        if self.sqlite:
            return func.bulk_id(milliseconds, scatter, type_=Id)
        shown = [
            func.lpad(func.to_hex(value), size, "0") for value, size in ((milliseconds, 12), (scatter, 15))
        ]
        return cast(shown[0] + "70008" + shown[1], Id)

    # What belongs to runs

    def _counts(self) -> Select[Any]:
        query = select(runs.c.team_id, runs.c.status, literal(0).label("slot"), func.count().label("runs"))
        return query.where(ORDINARY).group_by(runs.c.team_id, runs.c.status)

    def _leases(self) -> Select[Any]:
        stalled = runs.c.name.endswith("3")
        return select(
            runs.c.id.label("run_id"), runs.c.team_id, runs.c.fence,
            *(literal(value, Id if name == "worker_id" else Text).label(name) for name, value in self.worker.items()),
            literal(self.now).label("claimed_at"), literal(self.now).label("beat_at"),
            case((runs.c.name.endswith("7"), self.now), else_=self.now + HISTORY_US).label("lease_until"),
            runs.c.cancel_requested_at, stalled.label("stalled"),
        ).where(runs.c.status == Status.RUNNING)  # fmt: skip

    def _recent(self, *columns: Any) -> Select[Any]:
        since = self.now - HISTORY_US // 10
        return select(*columns).where(runs.c.created_at >= since, runs.c.finished_at.is_not(None))

    def _attempts(self) -> Select[Any]:
        outcome = case((runs.c.status == Status.COMPLETED, "completed"), else_="error")
        return self._recent(
            runs.c.id.label("run_id"), runs.c.fence, runs.c.attempt, literal("bulk:1").label("worker"),
            runs.c.started_at, runs.c.finished_at, outcome.label("outcome"),
        )  # fmt: skip

    def _events(self) -> Select[Any]:
        return self._recent(
            runs.c.id.label("run_id"), runs.c.finished_at.label("at"), literal("attempt_ended").label("kind"),
            literal("bulk:1").label("actor"), runs.c.fence, literal("{}").label("data"),
        )  # fmt: skip

    def _lines(self) -> Select[Any]:
        line = _numbers(LINES)
        return self._recent(*_entry(runs.c.id, runs.c.started_at, line)).join_from(
            runs, _rows_of(line), true()
        )

    def _long_log(self) -> UUID:
        big = self.teams["big"].team_id
        query = select(runs.c.id).where(runs.c.team_id == big, runs.c.status == Status.COMPLETED)
        newest: UUID = self.conn.execute(query.order_by(runs.c.created_at.desc()).limit(1)).scalar_one()
        self._insert(run_logs, select(*_entry(literal(newest, Id), literal(self.now), _numbers(LONG_LOG))))
        return newest


def _entry(run_id: ColumnElement[UUID], at: ColumnElement[int], line: ColumnElement[int]) -> list[Any]:
    words = literal("synced page ") + cast(line, Text)
    return [
        run_id.label("run_id"), literal(1).label("attempt"), (at + line).label("at"), literal("info").label("level"),
        words.label("message"), literal('{"page":1}').label("fields"),
    ]  # fmt: skip


def _numbers(count: int) -> ColumnElement[int]:
    """0 to `count` - 1."""
    numbers = select(literal(0, BigInteger).label("n")).cte("numbers", recursive=True)
    return numbers.union_all(select(numbers.c.n + 1).where(numbers.c.n < count - 1)).c.n


def _rows_of(number: ColumnElement[int]) -> Any:
    return number.table


def _apart(query: Select[*tuple[Any, ...]]) -> Subquery:
    # The offset keeps planners from writing each expression out wherever its column is used.
    return query.offset(0).subquery()


def _by_name(name: ColumnElement[Any], values: Mapping[Any, Any], other: Any = None) -> ColumnElement[Any]:
    whens = {
        key: literal(value, Id) if isinstance(value, UUID) else literal(value)
        for key, value in values.items()
    }
    return case(whens, value=name, else_=other)


def _choice(drawn: ColumnElement[int], shares: Mapping[Any, int]) -> ColumnElement[Any]:
    """One of the keys, each for its share of a thousand."""
    bounds = accumulate(shares.values())
    return case(*((drawn < bound, literal(value)) for value, bound in zip(shares, bounds, strict=True)))


def _pick(n: ColumnElement[int], salt: int, below: int) -> ColumnElement[int]:
    """A number from 0 to `below` - 1 that looks drawn by lot, and is the same in every filling and database."""
    # Multipliers of their own for each salt, or what is drawn for one column would follow from another's.
    return (n * (7_368_787 + 2_654_435 * salt) % 1_073_741_789) % below
