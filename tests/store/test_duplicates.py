"""Duplicates: a key is one run, whoever asks for it, at the same time or again, and what follows an active one."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from jobdeck.errors import AlreadyActive, Conflict, IdempotencyMismatch
from jobdeck.ids import show_id
from jobdeck.model import RunExtras
from jobdeck.states import AttemptOutcome, Condition, OnConflict, Status
from jobdeck.store.amend import Amend, amend
from jobdeck.store.enqueue import enqueue
from jobdeck.store.expiry import Expire, expire
from jobdeck.store.schema import run_events, run_keys, run_waits, runs
from tests.store.deck import Deck, good, team_of

ROOT = Path(__file__).parents[2]
DAY = 86_400.0


def key(name: str, request: str = "a", **more: Any) -> RunExtras:
    """An idempotency key of a request."""
    return RunExtras(idempotency_key=name, request=request, **more)


def dedupe(name: str, window: float | None = None, **more: Any) -> RunExtras:
    """A dedupe key, for a time or while a run is active."""
    span = None if window is None else timedelta(seconds=window)
    return RunExtras(dedupe_key=name, dedupe_window=span, **more)


async def statuses(deck: Deck) -> dict[UUID, str]:
    return {row["id"]: row["status"] for row in await deck.rows(runs)}


async def test_the_same_request_is_the_same_run(deck: Deck) -> None:
    """For 24 hours a key gives the run it made, whatever became of it; then it is new."""
    first = await deck.enqueue(extras=key("order-1"))
    assert await deck.enqueue(extras=key("order-1")) == first
    (claimed,) = await deck.claim()
    await deck.finish(claimed)
    deck.forward(DAY - 60)
    assert await deck.enqueue(extras=key("order-1")) == first
    deck.forward(61)
    second = await deck.enqueue(extras=key("order-1"))
    assert second != first
    assert await deck.enqueue(extras=key("order-1")) == second
    assert list(await statuses(deck)) == [first, second]
    assert len(await deck.rows(run_events)) == 3


async def test_another_request_under_the_same_key_is_a_conflict(deck: Deck) -> None:
    """The error names the run of the key; nothing is stored."""
    first = await deck.enqueue(extras=key("order-1", "a"))
    with pytest.raises(IdempotencyMismatch, match="another request") as caught:
        await deck.enqueue(extras=key("order-1", "b"))
    assert caught.value.existing_run_id == show_id("run", first)
    assert caught.value.exit_code == 4
    assert list(await statuses(deck)) == [first]


async def test_a_key_that_may_not_stand_in(deck: Deck) -> None:
    """With `reject` the same request is refused instead of answered with its run."""
    first = await deck.enqueue(extras=key("order-1"))
    with pytest.raises(AlreadyActive) as caught:
        await deck.enqueue(extras=key("order-1", on_conflict=OnConflict.REJECT))
    assert caught.value.existing_run_id == show_id("run", first)


async def test_keys_of_one_batch(deck: Deck) -> None:
    """The first of a batch makes the run, the others are it; other keys and other teams are not touched."""
    other = await team_of(deck.database, "other")
    items = [deck.new_run(extras=key(name)) for name in ("a", "b", "a", "b", "a")]
    items.append(other.new_run(extras=key("a")))
    found = [good(result) for result in await deck.database.write_many(enqueue, items)]
    assert found == [items[0].id, items[1].id, items[0].id, items[1].id, items[0].id, items[5].id]
    assert sorted(await statuses(deck)) == sorted({*found})


async def test_old_keys_are_forgotten(deck: Deck) -> None:
    """Keys that have run out do not stay for ever."""
    await deck.enqueue_many(1, extras=key("a"))
    await deck.enqueue(extras=dedupe("b", 60.0))
    deck.forward(61)
    await deck.database.write(expire, Expire("test"))
    assert [row["kind"] for row in await deck.rows(run_keys)] == ["idempotency"]
    deck.forward(DAY)
    await deck.database.write(expire, Expire("test"))
    assert await deck.rows(run_keys) == []


async def test_a_dedupe_key_stands_while_its_run_is_active(deck: Deck) -> None:
    """The run there is is the answer, pending or running; of another type or after its end there is a new one."""
    first = await deck.enqueue(extras=dedupe("user-7"))
    assert await deck.enqueue(extras=dedupe("user-7")) == first
    (claimed,) = await deck.claim()
    assert await deck.enqueue(extras=dedupe("user-7")) == first
    assert await deck.enqueue(job_type="report", extras=dedupe("user-7")) != first
    await deck.finish(claimed)
    assert await deck.enqueue(extras=dedupe("user-7")) != first


async def test_a_dedupe_window(deck: Deck) -> None:
    """For its time the key stands whatever becomes of the run, and not longer, even if that is still active."""
    first = await deck.enqueue(extras=dedupe("user-7", 600))
    (claimed,) = await deck.claim()
    await deck.finish(claimed)
    deck.forward(599)
    assert await deck.enqueue(extras=dedupe("user-7", 600)) == first
    deck.forward(2)
    second = await deck.enqueue(extras=dedupe("user-7", 600))
    assert second != first
    deck.forward(601)
    third = await deck.enqueue(extras=dedupe("user-7", 600))
    assert set((await statuses(deck)).values()) == {"completed", "pending"}
    assert len({first, second, third}) == 3


@pytest.mark.parametrize("mode", [OnConflict.REPLACE, OnConflict.QUEUE_LATEST])
@pytest.mark.parametrize("held", ["flight", "dedupe"])
async def test_a_waiting_run_gives_way(deck: Deck, mode: OnConflict, held: str) -> None:
    """One that has not begun is cancelled for the new one, with who asked and why."""
    first = await deck.enqueue(**_held(held, None))
    second = await deck.enqueue(**_held(held, mode), triggered_by="manual:bob")
    assert await statuses(deck) == {first: "cancelled", second: "pending"}
    old = await deck.show(first)
    assert (old.cancel_requested_by, old.cancel_reason) == (
        "manual:bob", f"superseded by {show_id('run', second)}",
    )  # fmt: skip
    assert [run.id for run in await deck.claim(5)] == [second]


def _held(held: str, mode: OnConflict | None) -> dict[str, Any]:
    if held == "flight":
        return {"flight_key": "p:sync:", "extras": RunExtras(on_conflict=mode)}
    return {"extras": dedupe("user-7", on_conflict=mode)}


@pytest.mark.parametrize("held", ["flight", "dedupe"])
async def test_the_latest_follows_the_running_one(deck: Deck, held: str) -> None:
    """The running one goes on unasked; of those that come meanwhile only the latest is left, and runs after it."""
    first = await deck.enqueue(**_held(held, None))
    (claimed,) = await deck.claim()
    ids = [await deck.enqueue(**_held(held, OnConflict.QUEUE_LATEST)) for _ in range(3)]
    assert await statuses(deck) == {
        first: "running", ids[0]: "cancelled", ids[1]: "cancelled", ids[2]: "pending",
    }  # fmt: skip
    assert (await deck.show(first)).cancel_requested_at is None
    waiting = await deck.show(ids[2])
    assert (waiting.label, waiting.blocked) == ("held", 1)
    assert await deck.claim(5) == []
    await deck.finish(claimed, AttemptOutcome.SNOOZED, retry_in_us=0)
    assert [run.id for run in await deck.claim(5)] == [first]
    deck.forward(31)
    await deck.recover()
    (claimed,) = await deck.claim(5)
    assert claimed.id == first
    await deck.finish(claimed)
    assert [run.id for run in await deck.claim(5)] == [ids[2]]
    assert {row["open"] for row in await deck.rows(run_waits)} == {False}


async def test_replacing_a_running_one(deck: Deck) -> None:
    """It is asked to stop, and the new one begins only when it has let go; a second new one takes the place in line."""
    first = await deck.enqueue(flight_key="p:sync:")
    (claimed,) = await deck.claim()
    replace = {"flight_key": "p:sync:", "extras": RunExtras(on_conflict=OnConflict.REPLACE)}
    second = await deck.enqueue(**replace)
    third = await deck.enqueue(**replace)
    old = await deck.show(first)
    assert (old.label, old.cancel_reason) == ("cancelling", f"superseded by {show_id('run', second)}")
    assert await deck.claim(5) == []
    await deck.finish(claimed, AttemptOutcome.CANCELLED)
    assert await statuses(deck) == {first: "cancelled", second: "cancelled", third: "pending"}
    assert [run.id for run in await deck.claim(5)] == [third]


async def test_a_run_that_is_next_holds_the_key_too(deck: Deck) -> None:
    """Without a mode a new one is refused while another is running or next; and nobody can be next twice."""
    await deck.enqueue(flight_key="p:sync:")
    (claimed,) = await deck.claim()
    following = await deck.enqueue(
        flight_key="p:sync:", extras=RunExtras(on_conflict=OnConflict.QUEUE_LATEST)
    )
    with pytest.raises(AlreadyActive):
        await deck.enqueue(flight_key="p:sync:")
    await deck.finish(claimed)
    with pytest.raises(AlreadyActive) as caught:
        await deck.enqueue(flight_key="p:sync:")
    assert caught.value.existing_run_id == show_id("run", following)
    await deck.set_run(claimed.id, status=Status.FAILED)
    with pytest.raises(AlreadyActive):
        await deck.retry(claimed.id)


async def test_the_next_one_can_be_cancelled(deck: Deck) -> None:
    """Then the place is free, and the running one's end frees nobody."""
    await deck.enqueue(flight_key="p:sync:")
    (claimed,) = await deck.claim()
    queue = {"flight_key": "p:sync:", "extras": RunExtras(on_conflict=OnConflict.QUEUE_LATEST)}
    following = await deck.enqueue(**queue)
    await deck.cancel(following)
    latest = await deck.enqueue(**queue)
    await deck.finish(claimed)
    assert (await statuses(deck))[following] == "cancelled"
    assert [run.id for run in await deck.claim(5)] == [latest]


async def test_narrower_and_wider_keys_do_not_follow_each_other(deck: Deck) -> None:
    """Who cannot narrow the key is refused by any narrower one whatever the mode, and the other way round."""
    await deck.enqueue(flight_key="p:sync:abc")
    for flight_key in ("p:sync:", "p:sync:abc"):
        extras = RunExtras(on_conflict=OnConflict.QUEUE_LATEST)
        if flight_key == "p:sync:":
            with pytest.raises(AlreadyActive):
                await deck.enqueue(flight_key=flight_key, extras=extras)
        else:
            await deck.enqueue(flight_key=flight_key, extras=extras)
    assert sorted((await statuses(deck)).values()) == ["cancelled", "pending"]


async def test_a_batch_that_supersedes_itself(deck: Deck) -> None:
    """Of many in one batch the last one is left."""
    queue = {"flight_key": "p:sync:", "extras": RunExtras(on_conflict=OnConflict.QUEUE_LATEST)}
    ids = await deck.enqueue_many(5, **queue)
    found = await statuses(deck)
    assert [found[run_id] for run_id in ids] == ["cancelled"] * 4 + ["pending"]


async def test_a_retry_meets_its_dedupe_key(deck: Deck) -> None:
    """An ended run is not retried while another one holds its key."""
    first = await deck.enqueue(max_attempts=1, extras=dedupe("user-7"))
    (claimed,) = await deck.claim()
    await deck.finish(claimed, AttemptOutcome.ERROR)
    second = await deck.enqueue(extras=dedupe("user-7"))
    with pytest.raises(AlreadyActive) as caught:
        await deck.retry(first)
    assert caught.value.existing_run_id == show_id("run", second)
    await deck.cancel(second)
    assert await deck.retry(first) == first


@pytest.mark.parametrize("what", ["idempotency", "dedupe", "window", "flight", "latest"])
async def test_many_at_once_make_one_run(deck: Deck, database_url: str, what: str) -> None:
    """200 identical requests of four processes make one run, and all but those of a flight are told which."""
    command = [sys.executable, "-m", "tests.store.asker", database_url, str(deck.scope.team_id), what]
    done = await asyncio.to_thread(
        subprocess.run, command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, timeout=90
    )
    answers = json.loads(done.stdout)
    assert len(answers) == 200
    active = [run_id for run_id, status in (await statuses(deck)).items() if status == "pending"]
    (one,) = active
    if what == "latest":
        # Each of them was a run, and took the place of the one before.
        assert sorted(answers) == sorted(show_id("run", run_id) for run_id in await statuses(deck))
    else:
        assert set(answers) == {show_id("run", one)}
        assert len(await statuses(deck)) == 1
        assert len(await deck.rows(run_events)) == 1


async def test_a_run_that_is_next_under_two_keys(deck: Deck) -> None:
    """It follows two runs, and holds neither key before both have ended; the end of the first is an end like any."""
    await deck.enqueue(extras=dedupe("user-7"))
    (first,) = await deck.claim()
    await deck.enqueue(flight_key="p:sync:")
    (second,) = await deck.claim()
    both = await deck.enqueue(
        flight_key="p:sync:", extras=dedupe("user-7", on_conflict=OnConflict.QUEUE_LATEST)
    )
    assert (await deck.finish(first)).status is Status.COMPLETED
    assert (await deck.show(both)).blocked == 1
    deck.forward(31)
    assert [ended.run_id for ended in await deck.recover()] == [second.id]
    (second,) = await deck.claim()
    await deck.finish(second)
    assert [run.id for run in await deck.claim()] == [both]


async def test_the_next_one_is_not_changed_into_the_way_of_a_third(deck: Deck) -> None:
    """A run that waits for its turn under one key cannot be given a key that another run holds."""
    await deck.enqueue(flight_key="p:sync:x")
    (holder,) = await deck.claim()
    queue = {"flight_key": "p:sync:x", "extras": RunExtras(on_conflict=OnConflict.QUEUE_LATEST)}
    following = await deck.enqueue(**queue)
    other = await deck.enqueue(flight_key="p:sync:y")
    item = Amend(deck.scope.team_id, following, "ada", None, params="{}", flight_key="p:sync:y")
    with pytest.raises(AlreadyActive) as caught:
        await deck.database.write(amend, item)
    assert caught.value.existing_run_id == show_id("run", other)
    await deck.finish(holder)
    assert {run.id for run in await deck.claim(5)} == {following, other}


@pytest.mark.parametrize("begun", [False, True])
async def test_waiting_for_the_run_that_gives_way(deck: Deck, begun: bool) -> None:
    """To wait for a run that ends for the new one can never come true, and nobody ends then; to wait for one that runs
    is to wait for its turn and for that end."""
    first = await deck.enqueue(flight_key="p:sync:")
    if begun:
        (claimed,) = await deck.claim()
    extras = RunExtras(on_conflict=OnConflict.QUEUE_LATEST, after=((first, Condition.COMPLETED),))
    if not begun:
        with pytest.raises(Conflict, match="has ended as cancelled"):
            await deck.enqueue(flight_key="p:sync:", extras=extras)
        assert await statuses(deck) == {first: "pending"}
        assert await deck.rows(run_waits) == []
        with pytest.raises(AlreadyActive):
            await deck.enqueue(flight_key="p:sync:")
        return
    second = await deck.enqueue(flight_key="p:sync:", extras=extras)
    assert (await deck.show(second)).blocked == 2
    await deck.finish(claimed)
    assert [run.id for run in await deck.claim()] == [second]


async def test_a_retry_meets_the_widest_key(deck: Deck) -> None:
    """A narrow run is not retried while one that covers its key is active."""
    narrow = await deck.enqueue(flight_key="p:sync:abc", max_attempts=1)
    (claimed,) = await deck.claim()
    await deck.finish(claimed, AttemptOutcome.ERROR)
    await deck.enqueue(flight_key="p:sync:")
    with pytest.raises(AlreadyActive):
        await deck.retry(narrow)
