"""Query plans: with thousands of runs no statement of the hot path reads them all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, text

from jobdeck.ids import new_id
from jobdeck.model import RunFilter
from jobdeck.states import AttemptOutcome, Status
from jobdeck.store import detail, drain, listing
from jobdeck.store.claim import Claim, claim
from jobdeck.store.database import Database
from jobdeck.store.enqueue import enqueue
from jobdeck.store.finish import Finish, Recover, finish, recover
from jobdeck.store.schema import leases, runs
from jobdeck.store.transaction import Rank, Tx, verb
from jobdeck.verdict import Ending
from tests.store.deck import WORKER, Deck, team_of

RUNS = 5_000
PENDING = 500
# As wide as real ones are: of narrow rows a server reads thousands sooner than it looks at an index.
PARAMS = '{"source":"' + "x" * 1_000 + '"}'


@verb(Rank.CHANGE)
def fill(tx: Tx, items: Sequence[Deck]) -> Sequence[None]:
    """For each team: ended runs, some pending ones in a few lanes, a few running.

    Then the statistics, where the server would gather them by itself; jobdeck gathers none on SQLite.
    """
    for deck in items:
        rows = [_row(deck, number, tx.now) for number in range(RUNS // len(items))]
        tx.conn.execute(insert(runs), rows)
        held = [row for row in rows if row["status"] == Status.RUNNING]
        tx.conn.execute(insert(leases), [_lease(row, tx.now) for row in held])
    if tx.conn.dialect.name == "postgresql":
        tx.conn.execute(text("ANALYZE"))
    return [None] * len(items)


def _row(deck: Deck, number: int, now: int) -> dict[str, Any]:
    every = RUNS // PENDING
    status = Status.PENDING if number % every == 0 else Status.COMPLETED
    if number % 100 == 1:
        status = Status.RUNNING
    if number % 50 == 2:
        status = Status.FAILED
    return {
        "id": new_id(), "team_id": deck.scope.team_id, "project_id": deck.project.id, "status": status,
        "queue": f"queue{number % 3}", "job_type": f"type{number % 20}", "priority": 1 + number % 10,
        "due_at": now - number, "created_at": now - 1_000 * number, "name": f"run {number}", "category": "sync",
        "trigger_type": "immediate", "triggered_by": "system", "params": PARAMS, "fence": int(status == "running"),
        "flight_key": f"key{number}",
    }  # fmt: skip


def _lease(row: dict[str, Any], now: int) -> dict[str, Any]:
    return {
        "run_id": row["id"], "team_id": row["team_id"], "fence": 1, "worker_id": WORKER, "worker": "host:1",
        "claimed_at": now, "beat_at": now, "lease_until": now,
    }  # fmt: skip


@pytest.fixture
async def full(database: Database) -> Deck:
    """A deck whose team shares 5,000 runs with another one."""
    deck = await team_of(database, "acme")
    await database.write_many(fill, [deck, await team_of(database, "other")])
    return deck


@contextmanager
def noted(conn: Connection) -> Iterator[list[tuple[str, Any]]]:
    """Every statement, with its parameters, that the connection executes in the block."""
    seen: list[tuple[str, Any]] = []
    if conn.dialect.driver == "pysqlite":
        # Hot statements go to the driver itself; SQLite tells of all, with the values filled in.
        driver: Any = conn.connection.dbapi_connection
        driver.set_trace_callback(lambda statement: seen.append((statement, ())))
        try:
            yield seen
        finally:
            driver.set_trace_callback(None)
        return

    def note(_conn: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        seen.append((statement, parameters[0] if many else parameters))

    event.listen(conn, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(conn, "before_cursor_execute", note)


def explain(conn: Connection, statements: Sequence[tuple[str, Any]]) -> list[str]:
    """One line for each step of each statement."""
    sqlite = conn.dialect.name == "sqlite"
    lines = []
    for statement, parameters in statements:
        if not re.match(r"\s*(SELECT|UPDATE|DELETE|WITH)", statement) or "pg_notify" in statement:
            continue
        words = "EXPLAIN QUERY PLAN" if sqlite else "EXPLAIN"
        rows = conn.exec_driver_sql(f"{words} {statement}", parameters).all()
        lines += [str(row[-1]).strip() for row in rows]
    return lines


async def plan_of_read(deck: Deck, query: Callable[..., object], *args: Any, **options: Any) -> list[str]:
    """The plan of a team-scoped read."""
    database = deck.database

    def look(conn: Connection) -> list[str]:
        now = database.now_of(conn)
        with noted(conn) as seen:
            query(conn, now, deck.scope, *args, **options)
        return explain(conn, seen)

    return await database.read(look)


async def plan_of_verb(deck: Deck, wanted: Any, item: Any) -> list[str]:
    """The plan of everything that a verb does for one item."""

    @verb(Rank.CHANGE)
    def look(tx: Tx, items: Sequence[Any]) -> Sequence[list[str]]:
        with noted(tx.conn) as seen:
            wanted(tx, items)
        return [explain(tx.conn, seen)]

    return await deck.database.write(look, item)


def assert_no_full_scan(plan: list[str]) -> None:
    """No step reads all runs; reading along an index until enough is found is no such step."""
    assert plan
    bad = re.compile(
        r"Seq Scan on runs\b|^SCAN (runs|first|previous|following|head|waiting|found)\b(?!.*USING)"
    )
    assert not [line for line in plan if bad.search(line)], plan


async def test_claim_walks_the_lanes(full: Deck) -> None:
    """Claim finds lanes and their first runs by the index of pending runs, and takes them by their key."""
    queues: tuple[str, ...]
    for queues in ((), ("queue1", "queue2")):
        item = Claim(new_id(), "host:1", 10, 30_000_000, ("type0", "type10"), queues)
        plan = await plan_of_verb(full, claim, item)
        assert_no_full_scan(plan)
        assert any("ix_runs_pending" in line for line in plan), plan


FILTERS = (
    RunFilter(),
    RunFilter(statuses=frozenset({"failed"})),
    RunFilter(statuses=frozenset({"scheduled"})),
    RunFilter(job_type="type7"),
    RunFilter(project="main", queue="queue1"),
)


async def test_a_page_is_read_along_its_index(full: Deck) -> None:
    """First, next, previous and last page, plain and filtered, are found by an index; SQLite sorts nothing."""
    key = await full.now() - 1_000_000, new_id()
    places: tuple[dict[str, Any], ...] = ({}, {"after": key}, {"before": key}, {"last": True})
    for chosen, place in product(FILTERS, places):
        plan = await plan_of_read(full, listing.page, chosen, limit=50, **place)
        assert_no_full_scan(plan)
        assert any("ix_runs_" in line for line in plan), (chosen, plan)
        assert not [line for line in plan if "TEMP B-TREE FOR ORDER BY" in line], (chosen, plan)


async def test_one_run_is_found_by_its_key(full: Deck) -> None:
    """Its record, its log, its place in the list, and several runs by their ids."""
    (run,) = await full.page(limit=1)

    def parts(conn: Connection, _now: int, scope: Any) -> None:
        listing.key_of(conn, scope, run.id)
        detail.logs(conn, scope, run.id)

    for plan in (
        await plan_of_read(full, detail.show, run.id),
        await plan_of_read(full, listing.by_ids, [run.id, new_id()]),
        await plan_of_read(full, parts),
    ):
        assert_no_full_scan(plan)


async def test_writing_finds_its_rows_by_key(full: Deck) -> None:
    """The end of an attempt, a recovery, a single flight and a look whether a drain is done read no whole table."""
    (run,) = await full.claim(types=("type0",))
    for wanted, item in (
        (finish, Finish(run.id, run.fence, Ending(AttemptOutcome.COMPLETED))),
        (enqueue, full.new_run(flight_key="key1")),
        (recover, Recover("reaper")),
    ):
        assert_no_full_scan(await plan_of_verb(full, wanted, item))

    def done(conn: Connection, now: int, _scope: Any) -> None:
        drain.nothing_left(conn, now, ("type1",), ())

    assert_no_full_scan(await plan_of_read(full, done))
