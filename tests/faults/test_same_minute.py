"""A thousand schedules of the same minute, while people go on asking for runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from statistics import quantiles
from uuid import UUID

from sqlalchemy import Connection, exists, select, update

from jobdeck.client import Client
from jobdeck.clock import from_us, to_us
from jobdeck.model import JobSpec
from jobdeck.store.schema import schedules
from tests.faults.case import LONG_LEASE, Case
from tests.faults.ledger import Kind, of_kind
from tests.faults.virtual import fired_as

WORKERS = 8
# Schedules; one batch of saved jobs has a hundred.
SHORT, WHOLE = 300, 1_000
BATCH = 100
# Seconds. What is measured stands in the report: five seconds for the fires and one for the 99th percentile on a
# machine of one's own. This is for a shared one, where eight workers have two cores between them and others.
BOUND = 60.0
# Runs that people ask for, at the least.
PROBES = 20


async def test_r19_all_at_the_same_minute(case: Case) -> None:
    """Eight worker processes see all schedules become due at once: each fires once, and people are not held up."""
    count = case.size.of(SHORT, WHOLE)
    # Their one fire lies in this minute; they sleep until all workers are there.
    moment = datetime.now(UTC).replace(second=0, microsecond=0)
    async with case.client() as client:
        ids = await _schedule(client, moment, count)
        for _ in range(WORKERS):
            case.workers.start(settings=LONG_LEASE)
        await case.until(lambda: len(case.history().workers) == WORKERS)
        with case.connection() as conn:
            conn.execute(update(schedules).values(next_fire_at=to_us(moment)))
        tick = datetime.now(UTC)
        case.ledger.fault("the minute has come")
        took = await _people(case, client, moment)
        await case.settled()
    history = case.history()
    more = list(fired_as(history, {key: [moment] for key in ids}))
    last = max(row["created_at"] for row in history.runs if row["fire_at"] is not None)
    fired = (from_us(last) - tick).total_seconds()
    enqueues, claims = p99(took), p99(list(_waits(case)))
    note = f"{count:,} fires by {WORKERS} processes in {fired:.1f} s; meanwhile p99 of an enqueue {enqueues:.2f} s"
    case.judge(more=more, faults=1, note=f"{note}, of the wait for a worker {claims:.2f} s")
    assert max(fired, enqueues, claims) < BOUND


async def _schedule(client: Client, moment: datetime, count: int) -> list[UUID]:
    """Jobs that fire in the minute of `moment` and not again for a year."""
    cron = f"{moment.minute} {moment.hour} {moment.day} {moment.month} *"
    ids: list[UUID] = []
    for start in range(0, count, BATCH):
        names = [f"job{number}" for number in range(start, start + BATCH)]
        specs = [JobSpec(name, {"type": "noop", "schedule": {"cron": cron}}) for name in names]
        ids += await client.jobs.create_many(specs)
    return ids


async def _people(case: Case, client: Client, moment: datetime) -> list[float]:
    """Ask for runs, one after the other, until all schedules have fired; how long each enqueue took."""
    took: list[float] = []
    # One connection, looked at here: it takes no time from the workers, who have two cores with all of this.
    with case.connection() as conn:
        while len(took) < PROBES or _any_left(conn, moment):
            before = time.monotonic()
            await case.enqueue(client, options={"priority": 1})
            took.append(time.monotonic() - before)
    return took


def _any_left(conn: Connection, moment: datetime) -> bool:
    query = select(exists().where(schedules.c.next_fire_at == to_us(moment)))
    # Each statement of this transaction sees what has been committed before it, on both databases.
    return bool(conn.execute(query).scalar_one())


def _waits(case: Case) -> Iterator[float]:
    """How long each run that somebody asked for waited after its id had come back."""
    given = {entry.run: entry.at for entry in of_kind(case.ledger.read(), Kind.ENQUEUED)}
    yield from (max(0.0, (effect.start or 0.0) - given[effect.run]) for effect in case.effects())


def p99(seconds: list[float]) -> float:
    """The 99th percentile."""
    return quantiles(seconds, n=100, method="inclusive")[-1]
