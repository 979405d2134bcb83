"""Nothing that jobdeck asks of a database touches more of it because there is more history.

Each piece of work is done on a database with ten thousand runs and on one with a million, which hold the same live
runs and as many of what is rare. What it touches is counted: not much more on the second, and never much at all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any, Final, TypeAlias
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import Connection, select

from jobdeck.clock import from_us
from jobdeck.errors import JobdeckError, ValidationError
from jobdeck.ids import new_id, show_id
from jobdeck.model import NewRun, RunFilter, RunKey
from jobdeck.states import GROUPS, AttemptOutcome, Label, Status
from jobdeck.store import changes, drain, fleet
from jobdeck.store.claim import Claim, claim
from jobdeck.store.database import Database
from jobdeck.store.enqueue import enqueue
from jobdeck.store.finish import Finish, Recover, finish, recover
from jobdeck.store.leases import Beat, beat
from jobdeck.store.lists import detail, listing
from jobdeck.store.lists.id_parts import ids_like
from jobdeck.store.open import upgrade
from jobdeck.store.schema import ORDINARY, leases, runs
from jobdeck.store.transaction import Rank, Tx, verb
from jobdeck.verdict import Ending
from tests.bulk import HISTORY_US, SERVED, Bulk
from tests.databases import opened
from tests.postgres import create_database, drop_database
from tests.store.deck import Deck, team_of
from tests.store.histories import PLANNERS, History, Work, cost_of

pytestmark = pytest.mark.timeout(600)

MOST: Final = {"sqlite": 200_000, "postgresql": 4_000}
"""For a page that looks for what no index holds. To read an index of the list alone, and nothing of the runs, would
take three million steps or five thousand pages."""
SLACK: Final = {"sqlite": 500, "postgresql": 40}
"""Pages that happen to be touched too. A tree of an index is higher by one or two levels: hence the factor 3."""
COMPLETED: Final = Ending(AttemptOutcome.COMPLETED)
Check: TypeAlias = Callable[..., Awaitable[None]]


@pytest.fixture
def bounded(long_history: History, database_kind: str) -> Check:
    """That a piece of work stays far below a scan of the long history, with every way to make plans."""

    async def check(work: Work, *name: object) -> None:
        for planner in PLANNERS[database_kind]:
            cost = await long_history.cost(planner, work)
            assert cost <= MOST[database_kind], (*name, planner, cost)

    return check


@pytest.fixture
def steady(short_history: History, long_history: History, database_kind: str) -> Check:
    """That a piece of work costs with the long history about what it costs with the short one."""

    async def check(work: Work, *name: object, times: int = 1) -> None:
        for planner in PLANNERS[database_kind]:
            short, long = [await each.cost(planner, work) for each in (short_history, long_history)]
            assert long <= 3 * short + SLACK[database_kind], (*name, planner, short, long)
            assert max(short, long) <= times * MOST[database_kind], (*name, planner, short, long)

    return check


def of_status(*names: str) -> RunFilter:
    return RunFilter(statuses=frozenset(names))


HOUR = timedelta(hours=1)
FILTERS: Final = {
    "everything": RunFilter(),
    **{name: of_status(name) for name in (*Status, *Label)},
    "group failed": RunFilter(statuses=GROUPS["failed"]),
    "not completed": RunFilter(statuses=frozenset(map(str, Status)) - {"completed"}),
    "status and label": of_status("failed", "scheduled", "running", "stalled"),
    **{f"type {name}": RunFilter(job_type=name) for name in ("type3", "rare_type", "none", "system.cleanup")},
    "type and rare status": replace(of_status("expired"), job_type="type3"),
    "rare type and status": replace(of_status("completed"), job_type="rare_type"),
    "system type and status": replace(of_status("failed"), job_type="system.cleanup"),
    **{f"queue {name}": RunFilter(queue=name) for name in ("default", "rare_queue", "none")},
    **{f"category {name}": RunFilter(category=name) for name in ("sync", "rare_category", "none")},
    **{f"project {name}": RunFilter(project=name) for name in ("web", "attic", "none")},
    **{f"text {text}": RunFilter(text=text) for text in ("synced", "needle", "none", "ä")},
    "text among failed": replace(of_status("failed"), text="none"),
    "all of it": RunFilter(GROUPS["failed"], "type3", "mail", "sync", "web", text="run 12"),
}


@pytest.mark.parametrize("name", FILTERS)
async def test_a_page_of_a_list(bounded: Check, name: str) -> None:
    """First page, one amid the history, the one above it, the oldest one, and one inside a time window."""

    def page(place: str) -> Work:
        def work(tx: Tx, made: Bulk) -> None:
            middle = from_us(made.now - HISTORY_US // 2)
            chosen, options = FILTERS[name], dict[str, Any](limit=51, last=place == "last")
            if place == "window":
                chosen = replace(chosen, since=middle - 100 * HOUR, until=middle + 100 * HOUR)
            if place in ("after", "before"):
                options[place] = RunKey(middle, UUID(int=0))
            scope = made.teams["big"]
            listing.page(tx.conn, tx.now, scope, chosen, differences=tx.differences, **options)

        return work

    for place in ("first", "after", "before", "last", "window"):
        await bounded(page(place), name, place)


async def test_what_an_index_holds_is_read_alone(steady: Check) -> None:
    """A page of one team, one status or one type reads as many entries as it shows, in all teams."""
    for team, name in product(("big", "tiny", "empty"), ("everything", "completed", "type type3")):

        def page(tx: Tx, made: Bulk, team: str = team, name: str = name) -> None:
            scope, chosen = made.teams[team], FILTERS[name]
            listing.page(tx.conn, tx.now, scope, chosen, differences=tx.differences, limit=51)

        await steady(page, team, name)


async def test_one_run(steady: Check) -> None:
    """Its record, its attempts, its log from either end, and several runs by their ids."""

    def look(tx: Tx, made: Bulk) -> None:
        scope, ids = made.teams["big"], some_ids(tx, made, 40)
        detail.show(tx.conn, tx.now, scope, made.long_log)
        listing.exists(tx.conn, scope, made.long_log)
        listing.by_ids(tx.conn, tx.now, scope, ids)
        listing.by_ids(tx.conn, tx.now, scope, ids[:1])
        last = detail.logs(tx.conn, tx.differences, scope, made.long_log, limit=1, newest=True)[0].id
        for run_id, after, newest in (
            (made.long_log, 0, False),
            (made.long_log, last - 10, False),
            (made.long_log, last, False),
            (made.long_log, 0, True),
            (ids[0], 0, False),
        ):
            detail.logs(tx.conn, tx.differences, scope, run_id, after=after, limit=100, newest=newest)

    await steady(look)


async def test_a_part_of_an_id(steady: Check, bounded: Check) -> None:
    """Tails of any length touch the runs that have them; a beginning that many share is looked at in part."""

    def tails(tx: Tx, made: Bulk) -> None:
        for run_id in some_ids(tx, made, 5):
            for length in (5, 6, 12, 25):
                ids_like(tx.conn, made.teams["big"], show_id("run", run_id)[-length:])

    def shortest(tx: Tx, made: Bulk) -> None:
        ids_like(tx.conn, made.teams["big"], show_id("run", made.long_log)[-4:])

    def beginnings(tx: Tx, made: Bulk) -> None:
        for team, length in product(("big", "tiny"), (4, 6, 8, 12)):
            with suppress(ValidationError):
                ids_like(tx.conn, made.teams[team], show_id("run", made.long_log)[4 : 4 + length])

    await steady(tails)
    await bounded(shortest)
    await bounded(beginnings)


def some_ids(tx: Tx, made: Bulk, count: int) -> list[UUID]:
    """Runs of the big team, one after another."""
    mine = select(runs.c.id).where(runs.c.team_id == made.teams["big"].team_id, ORDINARY)
    return list(tx.conn.execute(mine.order_by(runs.c.created_at.desc()).limit(count)).scalars())


async def test_the_fleet(steady: Check) -> None:
    """Workers with what they hold, job types with who knows them."""

    def look(tx: Tx, _made: Bulk) -> None:
        fleet.list_workers(tx.conn, tx.now)
        fleet.list_types(tx.conn, tx.now)
        fleet.find_type(tx.conn, "type3")

    await steady(look)


async def test_whether_a_drain_is_done(steady: Check) -> None:
    """With work left, with none for these types, with none in these queues."""

    def look(tx: Tx, _made: Bulk) -> None:
        for types, queues in ((SERVED, ()), (("none",), ()), (SERVED, ("none",))):
            drain.nothing_left(tx.conn, tx.now, types, queues)

    await steady(look)


async def test_claim(steady: Check) -> None:
    """One run or a hundred, of all queues or of one, and where there is nothing to take."""
    for limit, types, queues in (
        (1, SERVED, ()),
        (100, SERVED, ()),
        (10, SERVED, ("bulk",)),
        (10, ("none",), ()),
    ):
        item = Claim(new_id(), "host:1", limit, 30_000_000, types, queues)
        # Its cost is one of lanes with something pending, and here are some 300 of them.
        await steady(lambda tx, _made, item=item: claim(tx, [item]), limit, queues, times=4)


@pytest.fixture
async def unmeasured(
    database_kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[tuple[Deck, str]]:
    """A deck on a database that has never measured its tables, and where that is."""
    server = request.getfixturevalue("postgres_server") if database_kind == "postgresql" else None
    url = f"sqlite:///{tmp_path / 'unmeasured.db'}" if server is None else create_database(server)
    await upgrade(url)
    if server is not None:
        with psycopg.connect(url) as conn:
            conn.execute("ALTER TABLE runs SET (autovacuum_enabled = false)")
    async with opened(url) as database:
        yield await team_of(database, "acme"), url
    if server is not None:
        drop_database(server, url)


async def test_a_claim_without_statistics(unmeasured: tuple[Deck, str]) -> None:
    """A plan made before the database has measured anything goes by what waits: not by all runs of the type, ended
    ones too (600 pages here), nor through the whole table (550)."""
    deck, url = unmeasured
    await deck.enqueue_many(2_000)
    for _ in range(8):
        await deck.database.write_many(
            finish, [Finish(run.id, run.fence, COMPLETED) for run in await deck.claim(250)]
        )
    await deck.enqueue_many(3_000)
    kind = deck.database.differences.name
    planner = {"sqlite": "measured", "postgresql": "generic"}[kind]
    item, taken = Claim(new_id(), "host:1", 10, 30_000_000, ("sync",)), list[int]()

    def take(tx: Tx) -> None:
        (found,) = claim(tx, [item])
        assert not isinstance(found, JobdeckError)
        taken.append(len(found))

    cost = await cost_of(url, planner, take)
    assert set(taken) == {10}
    assert cost <= {"sqlite": 8_000, "postgresql": 400}[kind]


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_what_writes_plans_by_keys(database: Database) -> None:
    """Connections that write neither scan tables nor compile statements; what happens to read is as the server is."""

    @verb(Rank.CHANGE)
    def writing(tx: Tx, items: Sequence[None]) -> Sequence[list[str]]:
        return [_settings(tx.conn) for _ in items]

    assert await database.write(writing, None) == ["off", "off", "force_generic_plan"]
    assert (await database.read(_settings))[0] == "on"


def _settings(conn: Connection) -> list[str]:
    names = ("enable_seqscan", "jit", "plan_cache_mode")
    return [str(conn.exec_driver_sql(f"SHOW {name}").scalar()) for name in names]


async def test_recover(steady: Check) -> None:
    """Expired leases are found among the leases."""
    await steady(lambda tx, _made: recover(tx, [Recover("reaper")]))


async def test_the_end_of_runs(steady: Check) -> None:
    """A hundred outcomes, and the beat of the worker that holds the runs."""

    def end(tx: Tx, _made: Bulk) -> None:
        held = tx.conn.execute(select(leases.c.run_id, leases.c.fence, leases.c.worker_id).limit(100)).all()
        ids = tuple(row.run_id for row in held)
        beat(tx, [Beat(held[0].worker_id, ids, 30_000_000, False, 100, 0, "live")])
        finish(tx, [Finish(row.run_id, row.fence, COMPLETED) for row in held])

    await steady(end)


async def test_making_and_changing_runs(steady: Check) -> None:
    """New runs with and without a single flight, a cancel, a retry."""

    def change(tx: Tx, made: Bulk) -> None:
        team_id = made.teams["big"].team_id
        plain = NewRun(new_id(), team_id, None, "type3", "{}", "Run", "sync")
        enqueue(tx, [plain, plain._replace(id=new_id(), flight_key="key")])
        changes.cancel(tx, [changes.Cancel(team_id, plain.id, "ada", None)])
        changes.retry(tx, [changes.RetryRun(team_id, plain.id, "ada", None)])

    await steady(change)
