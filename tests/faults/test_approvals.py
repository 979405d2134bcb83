"""Many people decide on the same run at the same time: one of them does, and before that it does not run."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from uuid import UUID

from jobdeck.client import Client
from jobdeck.errors import Conflict
from jobdeck.store.database import Database
from jobdeck.store.expiry import Expire, expire
from tests.databases import opened
from tests.faults.case import LONG_LEASE, Case
from tests.faults.history import History
from tests.faults.invariants import Breach

SHORT, WHOLE = 15, 200
AT_ONCE = 20
DECIDED = frozenset({"approved", "rejected", "cancelled", "expired"})
"""What ends the waiting for an approval."""
CLAIM_BEGAN_EARLIER_US = 1_000_000
"""A claim says when it began; what it finds may have been approved, and committed, a moment after that."""


async def test_r28_many_decide_at_once(case: Case) -> None:
    """Twenty approve, reject, cancel and expire it, each time in another order: one wins, and only an approval runs."""
    rounds, refused = case.size.of(SHORT, WHOLE), 0
    more: list[Breach] = []
    async with AsyncExitStack() as stack:
        people = [await stack.enter_async_context(case.client({"actor": f"person{n}"})) for n in range(3)]
        database = await stack.enter_async_context(opened(case.url))
        asker = await stack.enter_async_context(case.client({"actor": "asker"}))
        case.workers.start(settings=LONG_LEASE)
        for seed in range(rounds):
            draw = random.Random(seed)
            # In every third round its time to live ends about when they decide.
            ttl = timedelta(milliseconds=draw.randrange(1, 100)) if seed % 3 == 2 else None
            (run_id,) = await case.enqueue(asker, options={"requires_approval": True, "ttl": ttl})
            answers = await asyncio.gather(*_deeds(people, database, run_id, draw), return_exceptions=True)
            errors = [answer for answer in answers if isinstance(answer, Exception)]
            refused += len(errors)
            more += [
                Breach("R28", run_id.hex, f"{type(error).__name__}: {error}")
                for error in errors
                if not isinstance(error, Conflict)
            ]
        await case.settled()
    history = case.history()
    told = Counter(first_decision(history, run_id) for run_id in history.by_id)
    more += list(_wrong(history))
    note = ", ".join(f"{count} {kind}" for kind, count in sorted(told.items()))
    case.judge(more=more, faults=rounds * AT_ONCE, note=f"{note}; {refused} deeds refused")
    assert len(told) > 1, "every order has had the same end"


def _deeds(
    people: Sequence[Client], database: Database, run_id: UUID, draw: random.Random
) -> list[Awaitable[object]]:
    """Twenty of them in the order of the draw, by people whose clients have connections of their own."""
    # What comes within one transaction is done in the order of the verbs' names, so an approval mostly wins: each time
    # one kind stays away. Whoever cancels wins against an approval too, so there are fewer of them.
    likely = {"approve": 4, "reject": 4, "cancel": 1, "expire": 3}
    del likely[draw.choice(list(likely))]
    kinds = draw.choices(list(likely), list(likely.values()), k=AT_ONCE)
    return [_deed(kind, draw.choice(people), database, run_id) for kind in kinds]


async def _deed(kind: str, somebody: Client, database: Database, run_id: UUID) -> object:
    match kind:
        case "approve":
            return await somebody.runs.approve(run_id)
        case "reject":
            return await somebody.runs.reject(run_id, reason="no")
        case "cancel":
            return await somebody.runs.cancel(run_id)
        case _:
            return await database.write(expire, Expire("system"))


def first_decision(history: History, run_id: str) -> str:
    """What ended its waiting; nothing where it waits still."""
    kinds = [event["kind"] for event in history.events_of()[run_id]]
    return next((kind for kind in kinds if kind in DECIDED), "")


def _wrong(history: History) -> Iterator[Breach]:
    """One decision; after an approval the run, or the end of its waiting; after any other nothing at all."""
    attempts = history.attempts_of()
    for run_id, run in history.by_id.items():
        events = history.events_of()[run_id]
        decided = [event for event in events if event["kind"] in DECIDED]
        kinds = [event["kind"] for event in decided]
        if kinds[:1] != ["approved"] and (len(kinds) != 1 or attempts.get(run_id)):
            yield Breach(
                "R28", run_id, f"was decided by {kinds} and has {len(attempts.get(run_id, []))} attempts"
            )
        if kinds[:1] == ["approved"] and kinds[1:] not in ([], ["cancelled"], ["expired"]):
            yield Breach("R28", run_id, f"was decided by {kinds}")
        approved_at = decided[0]["at"] - CLAIM_BEGAN_EARLIER_US
        early = [each for each in attempts.get(run_id, []) if each["started_at"] < approved_at]
        if early:
            yield Breach("R28", run_id, "ran before it was approved")
        if (run["approved_at"] is not None) != (kinds[:1] == ["approved"]):
            yield Breach("R28", run_id, f"is approved by {run['approved_by']}, but its events are {kinds}")
