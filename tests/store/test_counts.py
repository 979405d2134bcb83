"""Counters of runs: whatever verbs do, together and at the same time, they say what counting the rows would say."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress

from sqlalchemy import Connection, func, select

from jobdeck.errors import JobdeckError, NotCancellable
from jobdeck.states import AttemptOutcome
from jobdeck.store.changes import Cancel, cancel
from jobdeck.store.enqueue import enqueue
from jobdeck.store.finish import Finish, finish
from jobdeck.store.lists.counts import counts
from jobdeck.store.schema import run_counts, runs
from jobdeck.verdict import Ending
from tests.databases import opened
from tests.store.deck import Deck, team_of


async def counted(deck: Deck) -> dict[str, int]:
    return await deck.database.read(counts, deck.scope)


async def in_rows(deck: Deck) -> dict[str, int]:
    """What the rows themselves say."""
    mine = (runs.c.team_id == deck.scope.team_id, runs.c.job_type.not_like("system.%"))

    def look(conn: Connection) -> dict[str, int]:
        return dict(
            conn.execute(select(runs.c.status, func.count()).where(*mine).group_by(runs.c.status)).all()
        )

    return await deck.database.read(look)


async def _live(deck: Deck, seed: int) -> None:
    """A few runs through their lives, each ending in its own way."""
    drawn = random.Random(seed)
    outcomes = [
        AttemptOutcome.COMPLETED,
        AttemptOutcome.ERROR,
        AttemptOutcome.INTERRUPTED,
        AttemptOutcome.SNOOZED,
    ]
    for _ in range(6):
        ids = await deck.enqueue_many(3, max_attempts=drawn.choice([1, 2]))
        if drawn.random() < 0.5:
            # A neighbour may have taken and ended it meanwhile.
            with suppress(NotCancellable):
                await deck.cancel(drawn.choice(ids))
        for run in await deck.claim(drawn.randrange(1, 4)):
            await deck.finish(run, drawn.choice(outcomes))


async def test_counters_say_what_counting_says(deck: Deck, database_url: str) -> None:
    """Several writers of two processes and two teams at once, crashes and retries among it."""
    other = await team_of(deck.database, "other")
    async with opened(database_url) as second:
        neighbour = Deck(second, deck.scope, deck.project)
        decks = [deck, deck, neighbour, neighbour, other]
        await asyncio.gather(*(_live(each, seed) for seed, each in enumerate(decks)))
    await deck.claim(2)
    deck.forward(31)
    await deck.recover()
    for status in ("failed", "dead", "cancelled"):
        for run in await deck.rows(runs, status=status, team_id=deck.scope.team_id):
            await deck.retry(run["id"])
    for each in (deck, other):
        assert await counted(each) == await in_rows(each)


async def test_what_is_refused_is_not_counted(deck: Deck) -> None:
    """Items that fail, alone or with their whole transaction, leave the counters as they were."""
    await deck.enqueue_many(2)
    before = await counted(deck)
    bad = [deck.new_run(priority=11), deck.new_run(team_id=deck.project.id)]
    for item in bad:
        result = (await deck.database.write_many(enqueue, [item]))[0]
        assert isinstance(result, JobdeckError)
    (run,) = await deck.claim(1)
    stale = Finish(run.id, run.fence + 1, Ending(AttemptOutcome.COMPLETED))
    await deck.database.write_many(finish, [stale])
    await deck.database.write_many(cancel, [Cancel(deck.project.id, run.id, "eve", None)])
    assert Counter(await counted(deck)) == Counter(before) - Counter(pending=1) + Counter(running=1)


async def test_system_types_are_not_counted(deck: Deck) -> None:
    """They stand in no list of a team, so they are in none of its numbers either, through their whole life."""
    await deck.enqueue(job_type="system.prune")
    assert await counted(deck) == {}
    (run,) = await deck.claim(1, types=("system.prune",))
    await deck.finish(run)
    assert await counted(deck) == {}
    assert await deck.rows(run_counts) == []
