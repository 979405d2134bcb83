"""PostgreSQL: every transaction takes its locks in one order, so none is ever the victim of a deadlock.

A deadlock would be retried and would cost nothing but the second after which the server looks for one; that second is
what beats and cancels cannot spare.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from itertools import cycle
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from jobdeck.errors import Conflict, JobdeckError, StaleLease
from jobdeck.ids import new_id
from jobdeck.model import Progress, RunExtras
from jobdeck.states import AttemptOutcome, Condition
from jobdeck.store import changes
from jobdeck.store.claim import ClaimedRun
from jobdeck.store.enqueue import enqueue
from jobdeck.store.finish import Finish, finish
from jobdeck.store.leases import Beat, Report, SaveCheckpoint, beat, report, save_checkpoint
from jobdeck.verdict import Ending
from tests.databases import opened
from tests.store.deck import Deck, team_of
from tests.store.deck import report as said
from tests.store.rival import Rival

pytestmark = pytest.mark.parametrize("database_kind", ["postgresql"])

_SECONDS = 4.0
_RUNS = 24
_LEASE_US = 600_000_000


async def test_a_report_does_not_wait_for_a_change_of_its_run(deck: Deck, database_url: str) -> None:
    """Somebody holds the run's row: log lines, which refer to it, are stored all the same."""
    run = await deck.started()
    with Rival(database_url) as rival:
        rival.lock_run(run.id)
        saying = asyncio.create_task(deck.database.write(report, said(run, "still here")))
        await rival.until_waited_for_or(saying)
        assert saying.done(), "it waits for the run's row"
        rival.commit()
    await saying


@pytest.mark.parametrize("processes", [2, 9], ids=["verbs together", "each verb alone"])
async def test_no_deadlock_under_everything_at_once(database_url: str, processes: int) -> None:
    """All verbs about the same runs, in transactions of many verbs and of one: no deadlock, no error."""
    with _eager_detector(database_url):
        async with AsyncExitStack() as stack:
            opening = [stack.enter_async_context(opened(database_url)) for _ in range(processes)]
            first, *others = await asyncio.gather(*opening)
            deck = await team_of(first, "acme")
            crowd = _Crowd([deck, *(Deck(other, deck.scope, deck.project) for other in others)])
            await crowd.act(until=time.monotonic() + _SECONDS)
    assert min(crowd.acts.values()) > 2, crowd.acts
    assert _deadlocks(database_url) == 0


def _deadlocks(url: str) -> int:
    with psycopg.connect(url, autocommit=True) as admin:
        row = admin.execute(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
    assert row is not None
    return int(row[0])


@contextmanager
def _eager_detector(url: str) -> Iterator[None]:
    """The server looks for deadlocks after 20 ms, so that each costs the test little."""
    with psycopg.connect(url, autocommit=True) as admin:
        name = sql.Identifier(admin.info.dbname)
        admin.execute(sql.SQL("ALTER DATABASE {} SET deadlock_timeout = '20ms'").format(name))
        try:
            yield
        finally:
            admin.execute(sql.SQL("ALTER DATABASE {} RESET deadlock_timeout").format(name))


class _Crowd:
    """Workers and people, all about the same few runs, through databases that are dealt out among what they do."""

    def __init__(self, decks: Sequence[Deck]) -> None:
        self._decks = decks
        self._held: dict[UUID, ClaimedRun] = {}
        self._known: list[UUID] = []
        self._worker = new_id()
        self._drawn = random.Random(7)
        self.acts: Counter[str] = Counter()

    async def act(self, *, until: float) -> None:
        self._known = await self._decks[0].enqueue_many(_RUNS)
        doings = [
            self._claim, self._beat, self._report, self._checkpoint, self._finish, self._cancel, self._retry,
            self._enqueue, self._follow, self._recover,
        ]  # fmt: skip
        # Twice each, for a process has two connections that write.
        turns = zip(doings * 2, cycle(self._decks), strict=False)
        await asyncio.gather(*(self._repeat(doing, deck, until) for doing, deck in turns))

    async def _repeat(self, doing: Callable[[Deck], Awaitable[None]], deck: Deck, until: float) -> None:
        while time.monotonic() < until:
            await doing(deck)
            self.acts[doing.__name__] += 1
            await asyncio.sleep(0)

    def _some(self) -> list[ClaimedRun]:
        """A few of the held runs, in any order."""
        held = list(self._held.values())
        return self._drawn.sample(held, k=min(len(held), self._drawn.randint(1, 8)))

    async def _claim(self, deck: Deck) -> None:
        for run in await deck.claim(4, worker=self._worker, lease=_LEASE_US / 1e6):
            self._held[run.id] = run

    async def _beat(self, deck: Deck) -> None:
        ids = [run.id for run in self._some()]
        await deck.database.write(
            beat, Beat(self._worker, tuple(ids), _LEASE_US, False, len(ids), 0, "live", None)
        )

    async def _report(self, deck: Deck) -> None:
        _only(await deck.database.write_many(report, [self._words(run) for run in self._some()]), StaleLease)

    async def _checkpoint(self, deck: Deck) -> None:
        states = [SaveCheckpoint(run.id, run.fence, "{}") for run in self._some()]
        _only(await deck.database.write_many(save_checkpoint, states), StaleLease)

    async def _finish(self, deck: Deck) -> None:
        ended = self._some()[:6]
        for run in ended:
            self._held.pop(run.id, None)
        outcome = Ending(AttemptOutcome.ERROR, error="no", retry_in_us=0)
        items = [Finish(run.id, run.fence, outcome, self._words(run)) for run in ended]
        _only(await deck.database.write_many(finish, items), StaleLease)

    def _words(self, run: ClaimedRun) -> Report:
        return said(run, "one", "two", progress=Progress(processed=self._drawn.randint(0, 100)))

    async def _cancel(self, deck: Deck) -> None:
        team = deck.scope.team_id
        items = [changes.Cancel(team, run_id, "ada", None) for run_id in self._drawn.sample(self._known, k=3)]
        _only(await deck.database.write_many(changes.cancel, items), Conflict)

    async def _retry(self, deck: Deck) -> None:
        team = deck.scope.team_id
        items = [
            changes.RetryRun(team, run_id, "ada", None) for run_id in self._drawn.sample(self._known, k=3)
        ]
        _only(await deck.database.write_many(changes.retry, items), Conflict)

    async def _enqueue(self, deck: Deck) -> None:
        """Runs under keys that others want too; cancelled at once, so that the keys are free again."""
        keys = [f"main:other:{number}" for number in self._drawn.sample(range(12), k=6)]
        items = [deck.new_run(job_type="other", flight_key=key) for key in keys]
        results = await deck.database.write_many(enqueue, items)
        _only(results, Conflict)
        await self._undo(deck, results)

    async def _undo(self, deck: Deck, results: Sequence[UUID | JobdeckError]) -> None:
        taken = [
            changes.Cancel(deck.scope.team_id, it, "ada", None) for it in results if isinstance(it, UUID)
        ]
        await deck.database.write_many(changes.cancel, taken)

    async def _follow(self, deck: Deck) -> None:
        """Runs that wait for some of the others, named in any order; cancelled at once."""
        items = [
            deck.new_run(
                job_type="other", extras=RunExtras(after=tuple((on, Condition.FINISHED) for on in some))
            )
            for some in (self._drawn.sample(self._known, k=4) for _ in range(3))
        ]
        results = await deck.database.write_many(enqueue, items)
        _only(results, Conflict)
        await self._undo(deck, results)

    async def _recover(self, deck: Deck) -> None:
        await deck.recover()


def _only(results: Sequence[Any], *allowed: type[JobdeckError]) -> None:
    """Nothing went wrong but what the crowd brings on itself."""
    for result in results:
        assert not isinstance(result, JobdeckError) or isinstance(result, allowed), result
