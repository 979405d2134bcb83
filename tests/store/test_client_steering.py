"""Making and steering runs by the client: batches, rehearsals, again, decisions, changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from jobdeck.client import Client
from jobdeck.errors import (
    AlreadyActive,
    Conflict,
    Forbidden,
    IdempotencyMismatch,
    NotFound,
    UnknownJobType,
    ValidationError,
)
from jobdeck.ids import new_id, show_id
from jobdeck.limits import AFTER_RUNS, REASON_CHARS
from jobdeck.model import BatchItem
from jobdeck.states import AttemptOutcome, Condition, Status
from jobdeck.store.schema import run_events, run_keys, run_waits, runs
from tests.store.clients import client_of
from tests.store.deck import Deck, team_of


@pytest.fixture
async def client(deck: Deck) -> AsyncIterator[Client]:
    """Ada's client."""
    made = client_of(deck)
    yield made
    made.close()


@pytest.fixture
async def bob(deck: Deck) -> AsyncIterator[Client]:
    """Somebody else's client of the same team."""
    made = client_of(deck, actor="bob")
    yield made
    made.close()


async def test_the_same_request_again(client: Client, deck: Deck) -> None:
    """The answer is the run that is there, and says so; order of params and of options does not matter."""
    asked = {"tags": {"a": "1", "b": "2"}, "priority": 2, "idempotency_key": "k"}
    first = await client.runs.trigger("sync", {"source": "a", "pages": 2}, **asked)
    other_order = {**dict(reversed(asked.items())), "tags": {"b": "2", "a": "1"}}
    again = await client.runs.trigger("sync", {"pages": 2, "source": "a"}, **other_order)
    assert (first.deduplicated, again.deduplicated, again.id) == (False, True, first.id)
    for params, more in (({"source": "b"}, {}), ({"source": "a", "pages": 2}, {"priority": 3})):
        with pytest.raises(IdempotencyMismatch):
            await client.runs.trigger("sync", params, **{**asked, **more})
    assert len(await deck.rows(runs)) == 1


async def test_as_many_as_may_be_waited_for(client: Client, deck: Deck) -> None:
    """A run waits for a hundred others."""
    ids = await deck.enqueue_many(AFTER_RUNS)
    run = await client.runs.trigger("sync", after=[(run_id, Condition.FINISHED) for run_id in ids])
    assert (run.blocked, len(run.waits)) == (AFTER_RUNS, AFTER_RUNS)


async def test_a_batch_of_different_runs(client: Client, deck: Deck) -> None:
    """Each item is stored or refused for itself, and answered in its place."""
    other = new_id()
    results = await client.runs.trigger_batch(
        [
            BatchItem("sync", {"source": "a"}, {"idempotency_key": "k"}),
            BatchItem("unheard_of"),
            BatchItem("sync", {"pages": 0}),
            BatchItem("sync", {"source": "a"}, {"idempotency_key": "k"}),
            BatchItem("single", {"source": "s"}),
            BatchItem("single", {"source": "s"}),
            BatchItem("sync", {}, {"after": [(other, Condition.COMPLETED)]}),
            BatchItem("sync", {}, {"colour": "red"}),
            BatchItem("team_report"),
        ]
    )
    errors = [type(result.error) for result in results]
    assert errors == [
        type(None), UnknownJobType, ValidationError, type(None), type(None), AlreadyActive, NotFound,
        ValidationError, type(None),
    ]  # fmt: skip
    assert results[3].run_id == results[0].run_id
    assert [result.deduplicated for result in results] == [index == 3 for index in range(9)]
    assert {result.run_id for result in results if result.run_id} == {
        row["id"] for row in await deck.rows(runs)
    }
    made = {(await client.runs.show(result.run_id)).batch_id for result in results if result.run_id}
    assert len(made - {None}) == len(made) == 1
    (alone,) = await client.runs.trigger_batch([BatchItem("sync")])
    assert alone.run_id is not None
    assert (await client.runs.show(alone.run_id)).batch_id not in made | {None}
    assert await client.runs.trigger_batch([]) == []
    with pytest.raises(ValidationError, match="at most 10,000 runs at a time, not 10,001"):
        await client.runs.trigger_batch([BatchItem("sync")] * 10_001)


async def test_a_rehearsal_stores_nothing(client: Client, deck: Deck) -> None:
    """It shows the run as it would be, or the one that stands for it, or raises; tables and counts stay as they are."""
    held = await client.runs.trigger("single", {"source": "s"})
    kept = await client.runs.trigger("sync", idempotency_key="k")
    before = [await deck.rows(table) for table in (runs, run_events, run_keys, run_waits)]
    told = await client.runs.counts()
    run = await client.runs.preview(
        "sync", {"source": "x"}, delay=timedelta(hours=1), after=[(held.id, Condition.COMPLETED)],
        idempotency_key="new",
    )  # fmt: skip
    assert (run.label, run.params, run.blocked, run.deduplicated) == ("scheduled", {"source": "x"}, 1, False)
    assert (await client.runs.preview("sync", idempotency_key="k")).id == kept.id
    with pytest.raises(AlreadyActive):
        await client.runs.preview("single", {"source": "s"})
    with pytest.raises(ValidationError):
        await client.runs.preview("sync", {"pages": 0})
    replaced = await client.runs.preview("single", {"source": "s"}, on_conflict="replace")
    assert replaced.id != held.id
    assert [await deck.rows(table) for table in (runs, run_events, run_keys, run_waits)] == before
    assert await client.runs.counts() == told


async def test_again_with_the_same_or_other_params(client: Client, bob: Client, deck: Deck) -> None:
    """A new run of the same request, by whoever asks, which says what it continues; the old one stays as it is."""
    old = await client.runs.trigger(
        "sync", {"source": "a"}, priority=2, queue="slow", tags={"k": "v"}, metadata={"m": 1}, name="Mine",
        max_attempts=1, timeout=timedelta(seconds=5),
    )  # fmt: skip
    (claimed,) = await deck.claim()
    await deck.finish(claimed, AttemptOutcome.ERROR)
    new = await bob.runs.rerun(old.id)
    assert (new.continuation_of, new.triggered_by, new.status) == (old.id, "manual:bob", Status.PENDING)
    for name in (
        "params",
        "priority",
        "queue",
        "tags",
        "metadata",
        "name",
        "max_attempts",
        "timeout_s",
        "project",
    ):
        assert getattr(new, name) == getattr(old, name), name
    assert (await client.runs.show(old.id)).status is Status.FAILED
    assert (await bob.runs.rerun(old.id, {"source": "b"})).params == {"source": "b"}
    with pytest.raises(ValidationError):
        await bob.runs.rerun(old.id, {"pages": 0})
    with pytest.raises(NotFound):
        await bob.runs.rerun(new_id())


async def test_again_in_the_project_of_the_run(deck: Deck, client: Client) -> None:
    """Who works in no project, or another one, repeats a run in its own."""
    old = await client.runs.trigger("sync")
    elsewhere = client_of(deck, project=None)
    assert (await elsewhere.runs.rerun(old.id)).project == "main"
    elsewhere.close()


async def test_decisions(client: Client, bob: Client, deck: Deck) -> None:
    """Ada asks, Bob decides; the run says so, and only within the team."""
    first, second = [await client.runs.trigger("sync", requires_approval=True) for _ in range(2)]
    assert first.actions == ("approve", "reject", "cancel")
    with pytest.raises(Forbidden):
        await client.runs.approve(first.id)
    approved = await bob.runs.approve(first.id, reason="fine", seen=first.request_hash)
    assert (approved.status, approved.approved_by) == (Status.PENDING, "bob")
    with pytest.raises(ValidationError, match="needs a reason"):
        await bob.runs.reject(second.id, reason=" ")
    with pytest.raises(ValidationError, match=f"at most {REASON_CHARS}"):
        await bob.runs.reject(second.id, reason="x" * (REASON_CHARS + 1))
    rejected = await bob.runs.reject(second.id, reason="x" * REASON_CHARS)
    assert (rejected.status, rejected.failure_kind) == (Status.CANCELLED, "rejected")
    stranger = client_of(await team_of(deck.database, "other"), actor="bob")
    third = await client.runs.trigger("sync", requires_approval=True)
    for act in (stranger.runs.approve(third.id), stranger.runs.reject(third.id, reason="no")):
        with pytest.raises(NotFound):
            await act
    stranger.close()


async def test_changing_a_waiting_run(client: Client, bob: Client) -> None:
    """New params are checked as those of a new run; what is not named stays; an approval is void."""
    run = await client.runs.trigger("sync", {"source": "a"}, priority=3, requires_approval=True)
    await bob.runs.approve(run.id)
    changed = await client.runs.update(run.id, params={"source": "b"}, queue="slow", reason="typo")
    assert (changed.params, changed.queue, changed.priority) == ({"source": "b"}, "slow", 3)
    assert (changed.status, changed.approved_by) == (Status.AWAITING_APPROVAL, None)
    assert changed.request_hash != run.request_hash
    for wrong in (
        {"params": {"pages": 0}}, {"priority": 11}, {"queue": "a b"}, {"delay": timedelta(-1)}, {},
    ):  # fmt: skip
        with pytest.raises(ValidationError):
            await client.runs.update(run.id, **wrong)
    assert (await client.runs.show(run.id)).revision == changed.revision


async def test_changed_params_have_their_own_key(client: Client) -> None:
    """A run of a single flight moves to the key of its new params, unless somebody is there."""
    first = await client.runs.trigger("single", {"source": "a"})
    second = await client.runs.trigger("single", {"source": "b"})
    with pytest.raises(AlreadyActive) as caught:
        await client.runs.update(second.id, params={"source": "a"})
    assert caught.value.existing_run_id == show_id("run", first.id)
    await client.runs.update(second.id, params={"source": "c"})
    await client.runs.trigger("single", {"source": "b"})
    with pytest.raises(AlreadyActive):
        await client.runs.trigger("single", {"source": "c"})


async def test_a_run_that_has_ended_is_not_changed(client: Client, deck: Deck) -> None:
    """The conflict names its status."""
    with pytest.raises(Conflict, match="is completed"):
        await client.runs.update(await deck.with_status(Status.COMPLETED), priority=1)
