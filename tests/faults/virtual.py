"""A case's database under a clock of the case's own: schedules fire when the case says that it is time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

from sqlalchemy import func, select

from jobdeck.client import Client
from jobdeck.client.errands import Errands
from jobdeck.clock import from_us, to_us
from jobdeck.engine.rounds import Rounds
from jobdeck.model import Job
from jobdeck.store.database import Database
from jobdeck.store.schema import schedules
from tests.databases import opened
from tests.faults.case import Case
from tests.faults.history import History
from tests.faults.invariants import Breach
from tests.store.clients import SPECS, client_of
from tests.store.deck import Deck, team_of

TYPE = "sync"
"""The job type that the client knows."""


class Virtual:
    """A team, its client, and the round of a worker that fires schedules."""

    def __init__(self, deck: Deck, client: Client) -> None:
        self.deck = deck
        self.client = client
        self.rounds = rounds_on(deck.database)

    async def at(self, moment: datetime) -> None:
        """Set the database's clock."""
        self.deck.database.offset_us += to_us(moment) - await self.deck.now()

    async def scheduled(self, slug: str, **schedule: Any) -> Job:
        """A job with this schedule."""
        return await self.client.jobs.create(slug, {"type": TYPE, "schedule": schedule})

    async def next_fire(self) -> datetime | None:
        """The earliest fire that any schedule waits for."""
        query = select(func.min(schedules.c.next_fire_at))
        found = await self.deck.database.read(lambda conn: conn.execute(query).scalar())
        return None if found is None else from_us(found)


def rounds_on(database: Database) -> Rounds:
    """The rounds of one more worker."""
    return Rounds(database, Errands(database, "worker", SPECS.get).plan_fire)


@asynccontextmanager
async def virtual(case: Case) -> AsyncIterator[Virtual]:
    """The case's database, open in this process."""
    async with opened(case.url) as database:
        deck = await team_of(database, "acme")
        client = client_of(deck)
        try:
            yield Virtual(deck, client)
        finally:
            client.close()


def fires_of(history: History) -> dict[UUID, list[datetime]]:
    """The fires of each job that have made runs, in order."""
    found: dict[UUID, list[datetime]] = {}
    for row in history.runs:
        if row["fire_at"] is not None:
            found.setdefault(row["job_id"], []).append(from_us(row["fire_at"]))
    return {job_id: sorted(fires) for job_id, fires in found.items()}


def fired_as(history: History, expected: Mapping[UUID, list[datetime]]) -> Iterator[Breach]:
    """I7: the fires that have made runs are those that are expected, each once."""
    fires = fires_of(history)
    for job_id in fires.keys() | expected.keys():
        made, wanted = fires.get(job_id, []), expected.get(job_id, [])
        for fire in sorted(set(wanted) - set(made)):
            yield Breach("I7", job_id.hex, f"missed {fire}")
        for fire in sorted(set(made) - set(wanted)):
            yield Breach("I7", job_id.hex, f"fired at {fire} for no reason")
        for one, other in pairwise(made):
            if one == other:
                yield Breach("I7", job_id.hex, f"fired twice at {one}")
