"""Why a run does not run: the reasons are those that the claim has, and doing what they say lifts them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest

from jobdeck.client import Client
from jobdeck.errors import NotFound
from jobdeck.ids import new_id, show_id
from jobdeck.states import AttemptOutcome, Condition
from tests.store.clients import client_of
from tests.store.deck import Deck, team_of
from tests.store.fleet import join


@pytest.fixture
async def client(deck: Deck) -> AsyncIterator[Client]:
    """Ada's client; nobody works yet."""
    made = client_of(deck)
    yield made
    made.close()


async def kinds(client: Client, run_id: UUID) -> list[str]:
    return [reason.kind for reason in await client.runs.why(run_id)]


async def test_everything_at_once(client: Client, deck: Deck) -> None:
    """A run that waits for several things names them all, each with the command that lifts it."""
    other = await client.runs.trigger("sync")
    run = await client.runs.trigger(
        "sync", delay=timedelta(minutes=12), ttl=timedelta(hours=1), requires_approval=True,
        after=[(other.id, Condition.COMPLETED)],
    )  # fmt: skip
    found = await client.runs.why(run.id)
    assert [(reason.kind, reason.text) for reason in found] == [
        ("approval", "somebody has to approve it"),
        ("run", f"{other.shown_id} (sync, pending) has to be completed"),
        ("due", "it is due in 12m"),
        ("expires", "it expires in 1h if it has not begun"),
        ("worker", "no worker is running"),
    ]
    assert [reason.command for reason in found] == [
        f"jobdeck runs approve {run.shown_id}", f"jobdeck why {other.shown_id}",
        f"jobdeck runs update {run.shown_id} --delay 0s", None, "jobdeck runner",
    ]  # fmt: skip


async def test_what_is_said_is_what_holds(client: Client, deck: Deck) -> None:
    """One reason after the other is lifted; where none is left but its place in line, the next claim takes it."""
    bob = client_of(deck, actor="bob")
    run = await client.runs.trigger("sync", delay=timedelta(minutes=12), requires_approval=True)
    assert await kinds(client, run.id) == ["approval", "due", "worker"]
    await bob.runs.approve(run.id)
    assert await kinds(client, run.id) == ["due", "worker"]
    await client.runs.update(run.id, delay=timedelta(0))
    await bob.runs.approve(run.id)
    assert await kinds(client, run.id) == ["worker"]
    await join(deck.database)
    (reason,) = await client.runs.why(run.id)
    assert (reason.kind, reason.text) == ("position", "0 runs of the team go before it, at priority 5")
    assert [claimed.id for claimed in await deck.claim()] == [run.id]
    (reason,) = await client.runs.why(run.id)
    assert (reason.kind, reason.text) == ("running", "it runs on host:1")
    bob.close()


async def test_the_place_in_line(client: Client, deck: Deck) -> None:
    """Only what would be taken first is counted: more urgent, due earlier; not what is not ready or of other teams."""
    await join(deck.database)
    other = await team_of(deck.database, "other")
    await other.enqueue_many(5)
    await deck.enqueue_many(3, priority=1)
    await deck.enqueue_many(2)
    run = await client.runs.trigger("sync")
    await deck.enqueue_many(4)
    await deck.enqueue_many(4, priority=9)
    await client.runs.trigger("sync", priority=1, delay=timedelta(hours=1))
    await client.runs.trigger("sync", priority=1, after=[(run.id, Condition.FINISHED)])
    (reason,) = await client.runs.why(run.id)
    assert reason.text == "5 runs of the team go before it, at priority 5"
    assert reason.command == f"jobdeck runs update {run.shown_id} --priority 1"
    await deck.enqueue_many(1_001, priority=1)
    (reason,) = await client.runs.why(run.id)
    assert reason.text.startswith("more than 1,000 runs")


async def test_a_key_that_another_run_holds(client: Client, deck: Deck) -> None:
    """A run that is next says who is before it; cancelling that one lifts it."""
    first = await client.runs.trigger("single", {"source": "a"})
    (claimed,) = await deck.claim(types=("single",))
    run = await client.runs.trigger("single", {"source": "a"}, on_conflict="queue_latest")
    found = await client.runs.why(run.id)
    assert [reason.kind for reason in found] == ["key", "worker"]
    assert found[0].text == f"{first.shown_id} (single, running) holds its key"
    assert found[0].command == f"jobdeck runs cancel {first.shown_id}"
    await client.runs.cancel(first.id)
    await deck.finish(claimed, AttemptOutcome.CANCELLED)
    assert await kinds(client, run.id) == ["worker"]


async def test_a_retry_and_an_end(client: Client, deck: Deck) -> None:
    """A run that failed says when it is tried again and after what; one that has ended, how and what begins it anew."""
    run_id = await deck.enqueue(max_attempts=2)
    for wait_us in (90_000_000, 0):
        (claimed,) = await deck.claim()
        await deck.finish(claimed, AttemptOutcome.ERROR, error="boom", retry_in_us=wait_us)
        if wait_us:
            due = (await client.runs.why(run_id))[0]
            assert due.text in ("it is due in 1m30s, after: boom", "it is due in 1m29s, after: boom")
            deck.forward(90)
    (reason,) = await client.runs.why(run_id)
    assert (reason.kind, reason.text) == ("ended", "it has ended as dead")
    assert reason.command == f"jobdeck runs retry {show_id('run', run_id)}"


async def test_history(client: Client, deck: Deck) -> None:
    """Every act is told in order, with who and what; a foreign or unknown run has none."""
    run_id = await deck.enqueue(triggered_by="manual:ada")
    (claimed,) = await deck.claim()
    await client.runs.cancel(run_id, reason="enough")
    await deck.finish(claimed, AttemptOutcome.CANCELLED)
    events = await client.runs.events(run_id)
    assert [(event.kind, event.actor) for event in events] == [
        ("enqueued", "manual:ada"), ("cancel_requested", "ada"), ("attempt_ended", "host:1"),
    ]  # fmt: skip
    assert events[1].data == {"reason": "enough"}
    assert events[2].data == {"attempt": 1, "outcome": "cancelled", "status": "cancelled"}
    stranger = client_of(await team_of(deck.database, "other"))
    for unknown in (run_id, new_id()):
        for act in (stranger.runs.events(unknown), stranger.runs.why(unknown)):
            with pytest.raises(NotFound):
                await act
    stranger.close()
