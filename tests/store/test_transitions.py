"""The table of transitions, tried out: every verb on every status, and nothing happens that it does not allow."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from typing import Any

from sqlalchemy.exc import IntegrityError

from jobdeck.errors import JobdeckError
from jobdeck.ids import new_id
from jobdeck.retry import Backoff
from jobdeck.states import (
    ACTIVE,
    GROUPS,
    RETRYABLE,
    TERMINAL,
    TRANSITIONS,
    AttemptOutcome,
    Status,
    sources_of,
)
from jobdeck.store.amend import Amend, amend
from jobdeck.store.approvals import Decide, approve, reject
from jobdeck.store.claim import ClaimedRun
from jobdeck.store.expiry import Expire, expire
from jobdeck.store.finish import Finish, finish
from jobdeck.store.queues import NewQueue, create_queue
from jobdeck.store.schema import attempts, leases, runs
from jobdeck.store.tokens.pull import Ack, PullClaim, ack, claim_pulled
from jobdeck.store.transaction import Verb
from jobdeck.verdict import Ending
from tests.store.deck import Deck
from tests.store.pulling import park

REACHED = {(source, target) for source, targets in TRANSITIONS.items() for target in targets}
"""What the verbs bring about: all of the table, and nothing else."""


@dataclass(frozen=True)
class Act:
    """Something done to a run, under its own name."""

    name: str
    do: Callable[[Deck, Any, int], Awaitable[object]]


def _end(outcome: AttemptOutcome, **ending: Any) -> Act:
    async def do(deck: Deck, run_id: Any, fence: int) -> object:
        return await deck.database.write(finish, Finish(run_id, fence, Ending(outcome, **ending)))

    return Act(f"finish {outcome} {ending}", do)


async def _claim(deck: Deck, _run_id: Any, _fence: int) -> list[ClaimedRun]:
    return await deck.claim(50, worker=new_id())


async def _recover(deck: Deck, _run_id: Any, _fence: int) -> object:
    deck.forward(31)
    return await deck.recover()


async def _use_up(deck: Deck, run_id: Any, fence: int) -> object:
    await deck.set_run(run_id, max_attempts=2, failures=1)
    ending = Ending(AttemptOutcome.ERROR)
    return await deck.database.write(finish, Finish(run_id, fence, ending))


async def _decide(deck: Deck, verb: Verb[Decide, Any], run_id: Any) -> object:
    return await deck.database.write(verb, Decide(deck.scope.team_id, run_id, "bob", "because"))


async def _expire(deck: Deck, run_id: Any, _fence: int) -> object:
    await deck.set_run(run_id, expires_at=1)
    return await deck.database.write(expire, Expire("test"))


async def _amend(deck: Deck, run_id: Any, _fence: int) -> object:
    await deck.set_run(run_id, approved_at=1)
    return await deck.database.write(amend, Amend(deck.scope.team_id, run_id, "ada", None, priority=2))


async def _retry_unapproved(deck: Deck, run_id: Any, _fence: int) -> object:
    await deck.set_run(run_id, requires_approval=True)
    return await deck.retry(run_id)


async def _park(deck: Deck, run_id: Any, fence: int) -> object:
    return await park(deck.database, run_id, fence, DIGEST)


async def _ack_parked(deck: Deck, run_id: Any, fence: int, ending: Ending) -> object:
    """Only what a worker runs can be parked, and only what is parked can be ended by its token."""
    await park(deck.database, run_id, fence, DIGEST)
    item = Ack(deck.scope.team_id, run_id, DIGEST, "ada", ending)
    return await deck.database.write(ack, item)


async def _cancel_parked(deck: Deck, run_id: Any, fence: int) -> object:
    await park(deck.database, run_id, fence, DIGEST)
    return await deck.cancel(run_id)


async def _leave_parked(deck: Deck, run_id: Any, fence: int) -> object:
    await park(deck.database, run_id, fence, DIGEST, wait=10)
    deck.forward(11)
    return await deck.recover()


async def _claim_pulled(deck: Deck, run_id: Any, _fence: int) -> object:
    """A pull queue of this run alone, so that no worker has it."""
    await deck.set_run(run_id, queue=str(run_id))
    await deck.database.write(create_queue, NewQueue(deck.scope.team_id, str(run_id), True, "", "ada"))
    item = PullClaim(deck.scope.team_id, str(run_id), "ada", 30_000_000, (DIGEST,), lambda _type: Backoff())
    return await deck.database.write(claim_pulled, item)


def _ack(name: str, ending: Ending) -> Act:
    return Act(name, lambda deck, run_id, fence: _ack_parked(deck, run_id, fence, ending))


DIGEST = "digest"
_PREPARES = (
    "claim from a pull queue",
    "cancel",
    "finish the last attempt",
    "expire",
    "amend",
    "retry what nobody approved",
)
"""Acts that change a run without its status, or before they are refused."""

ACTS = (
    Act("claim", _claim),
    Act("cancel", lambda deck, run_id, _: deck.cancel(run_id)),
    Act("retry", lambda deck, run_id, _: deck.retry(run_id)),
    Act("approve", lambda deck, run_id, _: _decide(deck, approve, run_id)),
    Act("reject", lambda deck, run_id, _: _decide(deck, reject, run_id)),
    Act("expire", _expire),
    Act("amend", _amend),
    Act("retry what nobody approved", _retry_unapproved),
    Act("recover", _recover),
    Act("enqueue the same id", lambda deck, run_id, _: deck.enqueue(id=run_id)),
    *(_end(outcome) for outcome in AttemptOutcome),
    _end(AttemptOutcome.ERROR, final=True),
    Act("finish the last attempt", _use_up),
    Act("park", _park),
    Act("claim from a pull queue", _claim_pulled),
    Act("cancel what is parked", _cancel_parked),
    Act("leave what is parked", _leave_parked),
    _ack("ack completed", Ending(AttemptOutcome.COMPLETED)),
    _ack("ack failed", Ending(AttemptOutcome.ERROR)),
    _ack("ack failed for good", Ending(AttemptOutcome.ERROR, final=True)),
)


def test_the_table_is_whole() -> None:
    """Every status has a row, nothing leads to itself, and only a retry leaves an ended status."""
    assert set(TRANSITIONS) == set(Status)
    for source, targets in TRANSITIONS.items():
        assert source not in targets
        assert targets or source is Status.COMPLETED
        if source in TERMINAL:
            assert targets <= {Status.PENDING, Status.AWAITING_APPROVAL}
    assert set(TERMINAL) | set(ACTIVE) == set(Status)
    assert {status for status in TERMINAL if TRANSITIONS[status]} == RETRYABLE


def test_sources_are_the_table_read_backwards() -> None:
    """`sources_of` names exactly the statuses from which the table leads to a target."""
    for source, target in product(Status, Status):
        assert (source in sources_of(target)) == (target in TRANSITIONS[source])


def test_groups_share_out_the_statuses() -> None:
    """Each status is in exactly one of the five classic groups."""
    members = [status for group in GROUPS.values() for status in group]
    assert sorted(members) == sorted(Status)


async def _statuses(deck: Deck) -> dict[Any, Status]:
    return {row["id"]: Status(row["status"]) for row in await deck.rows(runs)}


_REFUSED = (JobdeckError, IntegrityError, sqlite3.IntegrityError)


async def test_no_verb_leaves_the_table(deck: Deck) -> None:
    """Each verb and each outcome is tried on a run in each status: what changes is in the table, and all of it occurs.

    A run that did not change keeps its row to the last column, and one that is not running has no lease.
    """
    seen = set()
    for status, act in product(Status, ACTS):
        run_id = await deck.with_status(status)
        (before,) = await deck.rows(runs, id=run_id)
        with suppress(*(_REFUSED if act.name == "enqueue the same id" else [JobdeckError])):
            await act.do(deck, run_id, before["fence"])
        (after,) = await deck.rows(runs, id=run_id)
        moved = (Status(before["status"]), Status(after["status"]))
        if moved[0] is moved[1]:
            assert before == after or act.name in _PREPARES, (status, act.name)
        else:
            assert moved[1] in TRANSITIONS[moved[0]], (status, act.name, moved)
            seen.add(moved)
        await _put_away(deck, after)
    assert seen == REACHED


async def _put_away(deck: Deck, row: dict[str, Any]) -> None:
    """End the run, so that the next claim finds only its own."""
    held = await deck.rows(leases, run_id=row["id"])
    assert len(held) == (row["status"] == Status.RUNNING)
    ending = Ending(AttemptOutcome.COMPLETED)
    if held and held[0]["token_hash"] is not None:
        await deck.database.write(ack, Ack(deck.scope.team_id, row["id"], DIGEST, "ada", ending))
    elif held:
        await deck.database.write(finish, Finish(row["id"], row["fence"], ending))
    elif row["status"] in ACTIVE:
        await deck.cancel(row["id"])


async def test_an_outcome_is_written_only_on_a_running_run(deck: Deck) -> None:
    """Even where a lease was left behind by a damaged database, finish and recover leave a run that is not running."""
    for status in sorted(set(Status) - {Status.RUNNING}):
        claimed = await deck.started(priority=1)
        await deck.set_run(claimed.id, status=status)
    before = await deck.rows(runs)
    for row in before:
        ending = Ending(AttemptOutcome.COMPLETED, result="1")
        (result,) = await deck.database.write_many(finish, [Finish(row["id"], row["fence"], ending)])
        assert isinstance(result, JobdeckError)
    deck.forward(31)
    assert await deck.recover() == []
    assert await deck.rows(runs) == before
    assert await deck.rows(attempts) == []
