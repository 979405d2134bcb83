"""Approval: nobody runs before it, one decision counts, and what was approved is what runs."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from jobdeck.approval import request_hash
from jobdeck.errors import Conflict, Forbidden, JobdeckError, NotFound
from jobdeck.ids import new_id
from jobdeck.model import CancelReply, RunExtras
from jobdeck.states import WAITING, AttemptOutcome, FailureKind, Status
from jobdeck.store.amend import Amend, amend
from jobdeck.store.approvals import Decide, approve, reject
from jobdeck.store.changes import Cancel, cancel
from jobdeck.store.expiry import Expire, expire
from jobdeck.store.lists.counts import counts
from jobdeck.store.schema import run_events, runs
from tests.store.deck import Deck, team_of

NEEDS = RunExtras(requires_approval=True)


def decide(deck: Deck, run_id: UUID, actor: str = "bob", **more: object) -> Decide:
    """A decision of somebody who did not ask for the run."""
    return Decide(deck.scope.team_id, run_id, actor, "because", **more)  # type: ignore[arg-type]


async def kinds(deck: Deck, run_id: UUID) -> list[str]:
    return [event["kind"] for event in await deck.rows(run_events, run_id=run_id)]


async def test_it_runs_only_when_approved(deck: Deck) -> None:
    """Before, nobody can take it; after, it says by whom and when, and its history why."""
    run_id = await deck.enqueue(extras=NEEDS, triggered_by="manual:ada")
    waiting = await deck.show(run_id)
    assert (waiting.status, waiting.actions) == (Status.AWAITING_APPROVAL, ("approve", "reject", "cancel"))
    assert await deck.claim(5) == []
    assert await deck.database.write(approve, decide(deck, run_id)) == run_id
    run = await deck.show(run_id)
    assert (run.status, run.approved_by, run.requires_approval) == (Status.PENDING, "bob", True)
    assert run.approved_at is not None
    (claimed,) = await deck.claim(5)
    assert claimed.rare.approved_hash == run.request_hash == request_hash("sync", None, claimed.params)
    assert await kinds(deck, run_id) == ["enqueued", "approved"]


async def test_a_rejected_run_never_runs(deck: Deck) -> None:
    """It ends as cancelled, and says by whom and why."""
    run_id = await deck.enqueue(extras=NEEDS)
    await deck.database.write(reject, decide(deck, run_id))
    run = await deck.show(run_id)
    assert (run.status, run.failure_kind) == (Status.CANCELLED, FailureKind.REJECTED)
    assert run.error == "rejected by bob: because"
    assert await kinds(deck, run_id) == ["enqueued", "rejected"]
    assert await deck.claim(5) == []
    told = await deck.database.read(counts, deck.scope)
    assert {name: number for name, number in told.items() if number} == {"cancelled": 1}


@pytest.mark.parametrize("verb", [approve, reject])
async def test_nobody_decides_on_their_own(deck: Deck, verb: object) -> None:
    """Who asked for a run is not who approves or rejects it, unless that is configured."""
    run_id = await deck.enqueue(extras=NEEDS, triggered_by="manual:ada")
    with pytest.raises(Forbidden, match=r"own = true under \[approvals\]"):
        await deck.database.write(verb, decide(deck, run_id, "ada"))  # type: ignore[arg-type]
    assert (await deck.show(run_id)).status is Status.AWAITING_APPROVAL
    await deck.database.write(verb, decide(deck, run_id, "ada", own=True))  # type: ignore[arg-type]


async def test_only_what_waits_is_decided(deck: Deck) -> None:
    """Any other status is a conflict that names it, an unknown or foreign run is not found; nothing changes."""
    other = await team_of(deck.database, "other")
    foreign = await other.enqueue(extras=NEEDS)
    for run_id in (foreign, new_id()):
        with pytest.raises(NotFound):
            await deck.database.write(approve, decide(deck, run_id))
    for status in sorted(set(Status) - {Status.AWAITING_APPROVAL}):
        run_id = await deck.with_status(status)
        with pytest.raises(Conflict, match=f"is {status}"):
            await deck.database.write(reject, decide(deck, run_id))
        if status in WAITING or status is Status.RUNNING:
            await deck.set_run(run_id, status=Status.COMPLETED)


async def test_what_has_changed_since_it_was_shown(deck: Deck) -> None:
    """A decision on something else than what is there is refused."""
    run_id = await deck.enqueue(extras=NEEDS)
    shown = (await deck.show(run_id)).request_hash
    await deck.database.write(amend, Amend(deck.scope.team_id, run_id, "eve", None, params='{"all":true}'))
    with pytest.raises(Conflict, match="has been changed since it was shown"):
        await deck.database.write(approve, decide(deck, run_id, seen=shown))
    seen = (await deck.show(run_id)).request_hash
    await deck.database.write(approve, decide(deck, run_id, seen=seen))


async def test_a_change_voids_the_approval(deck: Deck) -> None:
    """An approved run that is changed awaits approval again, even where only its priority is another."""
    run_id = await deck.enqueue(extras=NEEDS)
    await deck.database.write(approve, decide(deck, run_id))
    await deck.database.write(amend, Amend(deck.scope.team_id, run_id, "eve", None, priority=1))
    run = await deck.show(run_id)
    assert (run.status, run.approved_at, run.approved_by) == (Status.AWAITING_APPROVAL, None, None)
    assert await deck.claim(5) == []
    told = await deck.database.read(counts, deck.scope)
    assert {name: number for name, number in told.items() if number} == {"awaiting_approval": 1}


async def test_the_time_to_live_goes_on(deck: Deck) -> None:
    """What was not decided in time expires, and is not approved in the moment before somebody has noticed."""
    run_id = await deck.enqueue(extras=NEEDS._replace(ttl=timedelta(seconds=60)))
    deck.forward(61)
    with pytest.raises(Conflict, match="time to live"):
        await deck.database.write(approve, decide(deck, run_id))
    assert await deck.database.write(expire, Expire("test")) == 1
    assert (await deck.show(run_id)).status is Status.EXPIRED


async def test_one_decision_counts(deck: Deck) -> None:
    """Twenty people who approve, reject and cancel at the same time, while it expires: one of them succeeds."""
    for _ in range(5):
        run_id = await deck.enqueue(extras=NEEDS._replace(ttl=timedelta(seconds=60)))
        team_id = deck.scope.team_id
        doing: list[object] = []
        for index in range(20):
            actor = f"person{index}"
            if index % 3 == 0:
                doing.append(deck.database.write(approve, decide(deck, run_id, actor)))
            elif index % 3 == 1:
                doing.append(deck.database.write(reject, decide(deck, run_id, actor)))
            else:
                doing.append(deck.database.write(expire, Expire("test")))
        results = await asyncio.gather(*doing, return_exceptions=True)  # type: ignore[call-overload]
        won = [result for result in results if result == run_id]
        assert len(won) == 1
        refused = [result for result in results if isinstance(result, Exception)]
        assert all(isinstance(error, Conflict) for error in refused)
        assert len(await kinds(deck, run_id)) == 2
        await deck.set_run(run_id, status=Status.COMPLETED)
        reply = await _try(deck, Cancel(team_id, run_id, "ada", None))
        assert isinstance(reply, JobdeckError)


async def _try(deck: Deck, item: Cancel) -> CancelReply | JobdeckError:
    (result,) = await deck.database.write_many(cancel, [item])
    return result


async def test_a_row_changed_by_hand_is_seen_by_the_worker(deck: Deck) -> None:
    """The digest of what was approved goes with the claim, so that other params under it can be told."""
    run_id = await deck.enqueue(extras=NEEDS)
    await deck.database.write(approve, decide(deck, run_id))
    await deck.set_run(run_id, params='{"all":true}')
    (claimed,) = await deck.claim(5)
    assert claimed.rare.approved_hash != request_hash(
        claimed.job_type, claimed.rare.job_version, claimed.params
    )
    assert (await deck.rows(runs, id=run_id))[0]["approved_hash"] == claimed.rare.approved_hash


@pytest.mark.parametrize("how", ["reject", "cancel", "expire"])
async def test_a_retry_is_no_approval(deck: Deck, how: str) -> None:
    """What was rejected, cancelled or ran out of time before anybody approved it awaits approval again."""
    run_id = await deck.enqueue(extras=NEEDS._replace(ttl=timedelta(seconds=60)))
    if how == "reject":
        await deck.database.write(reject, decide(deck, run_id))
    elif how == "cancel":
        await deck.cancel(run_id)
    else:
        deck.forward(61)
        await deck.database.write(expire, Expire("test"))
    await deck.retry(run_id)
    assert (await deck.show(run_id)).status is Status.AWAITING_APPROVAL
    assert await deck.claim(5) == []
    told = await deck.database.read(counts, deck.scope)
    assert {name: number for name, number in told.items() if number} == {"awaiting_approval": 1}


async def test_an_approved_run_that_is_retried(deck: Deck) -> None:
    """Its approval stands: it is the same request."""
    run_id = await deck.enqueue(extras=NEEDS, max_attempts=1)
    await deck.database.write(approve, decide(deck, run_id))
    (claimed,) = await deck.claim()
    await deck.finish(claimed, AttemptOutcome.ERROR)
    await deck.retry(run_id)
    (claimed,) = await deck.claim()
    assert claimed.rare.approved_hash is not None


async def test_nobody_approves_their_own_change(deck: Deck) -> None:
    """Who has changed a run last has asked for what it is now, and does not decide on it."""
    run_id = await deck.enqueue(extras=NEEDS, triggered_by="manual:ada")
    item = Amend(deck.scope.team_id, run_id, "bob", None, params='{"all":true}')
    await deck.database.write(amend, item)
    with pytest.raises(Forbidden, match="was changed by you"):
        await deck.database.write(approve, decide(deck, run_id, "bob"))
    await deck.database.write(approve, decide(deck, run_id, "eve"))
