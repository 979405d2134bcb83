"""A pull queue `outside` of a deck's team, and programs that work on it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from jobdeck.client import Client
from jobdeck.pull import ClaimedWork
from jobdeck.states import AttemptOutcome
from jobdeck.store.database import Database
from jobdeck.store.finish import Finish, finish
from jobdeck.verdict import Ending, Parking
from tests.store.deck import Deck

QUEUE = "outside"


async def claimed(client: Client, deck: Deck, **facts: Any) -> ClaimedWork:
    """A run of the pull queue that a program has claimed."""
    run_id = await deck.enqueue(queue=QUEUE, **facts)
    (work,) = await client.queues.claim(QUEUE)
    assert work.run_id == run_id
    return work


async def park(
    database: Database, run_id: UUID, fence: int, digest: str, *, wait: float = 3_600, retry: float = 5
) -> Any:
    """Say as a worker that the handler has parked its run; the answer, or the error."""
    parking = Parking(digest, int(wait * 1_000_000))
    ending = Ending(AttemptOutcome.PARKED, parking=parking, retry_in_us=int(retry * 1_000_000))
    (answer,) = await database.write_many(finish, [Finish(run_id, fence, ending)])
    return answer
