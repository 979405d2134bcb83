"""A process that is cut off in the middle of a transaction: the locks it holds end with the patience of the server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from jobdeck.errors import DatabaseError, JobdeckError, StaleLease
from jobdeck.store.leases import Beat, Held, beat
from jobdeck.store.transaction import Rank, Tx, Verb, verb
from tests.databases import opened
from tests.link import Link, linked
from tests.store.deck import WORKER, Deck, team_of

pytestmark = pytest.mark.parametrize("database_kind", ["postgresql"])


async def test_a_run_locked_by_a_process_that_is_gone_is_recovered(database_url: str) -> None:
    """Its beat has locked the lease and the line is cut before the commit: another one takes the run over all the same.

    Without an end of its own such a transaction would hold the run until the server notices the dead connection,
    which may take hours.
    """
    async with opened(database_url) as other:
        there = await team_of(other, "acme")
        await there.enqueue()
        with linked(database_url) as link:
            async with opened(link.url, command_timeout=1.0) as database:
                here = Deck(database, there.scope, there.project)
                (run,) = await here.claim()
                locked = asyncio.Event()
                item = Beat(WORKER, (run.id,), 30_000_000, False, 1, 0, "live")
                cut_off = asyncio.create_task(database.write(_cut_in_the_middle(link, locked), item))
                await locked.wait()
                there.forward(60)
                async with asyncio.timeout(30):
                    while not (ended := await there.recover()):
                        await asyncio.sleep(0.05)
                assert [item.run_id for item in ended] == [run.id]
                link.heal()
                (said,) = await asyncio.gather(cut_off, return_exceptions=True)
                # Done again on another connection it finds nothing to extend; where it was given up before, it failed.
                assert said == [] or isinstance(said, DatabaseError)
                with pytest.raises(StaleLease):
                    await here.finish(run)


def _cut_in_the_middle(link: Link, locked: asyncio.Event) -> Verb[Beat, list[Held]]:
    """A beat after which nothing reaches the server any more, not even its commit."""

    @verb(Rank.BEAT)
    def beat_and_cut(tx: Tx, items: Sequence[Beat]) -> Sequence[list[Held] | JobdeckError]:
        found = beat(tx, items)
        if not locked.is_set():
            link.cut()
            locked.set()
        return found

    return beat_and_cut
