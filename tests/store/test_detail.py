"""One run as a whole: its attempts, the one under way included, and its log read from both ends."""

from __future__ import annotations

from typing import Any

from jobdeck.ids import new_id
from jobdeck.model import LogEntry
from jobdeck.states import AttemptOutcome
from jobdeck.store.leases import report as store_report
from jobdeck.store.lists import detail
from tests.store.deck import WORKER, Deck, report


async def logs(deck: Deck, run_id: Any, **part: Any) -> list[LogEntry]:
    return await deck.database.read(detail.logs, deck.database.differences, deck.scope, run_id, **part)


async def test_attempts_with_the_one_under_way(deck: Deck) -> None:
    """Ended attempts in their order, then the current one without an end; after its end it is among the ended ones."""
    run_id = await deck.enqueue(max_attempts=5)
    for _ in range(2):
        (claimed,) = await deck.claim()
        await deck.finish(claimed, AttemptOutcome.TIMED_OUT, error="slow", traceback="here")
    (claimed,) = await deck.claim()
    run = await deck.show(run_id)
    assert [(each.attempt, each.fence, each.outcome) for each in run.attempts] == [
        (1, 1, "timed_out"), (2, 2, "timed_out"), (3, 3, None),
    ]  # fmt: skip
    ended, current = run.attempts[0], run.attempts[-1]
    assert (ended.error, ended.traceback, ended.worker, ended.worker_id) == ("slow", "here", "host:1", WORKER)
    assert ended.duration is not None
    assert (current.finished_at, current.duration, current.error, current.worker) == (
        None,
        None,
        None,
        "host:1",
    )
    assert current.started_at >= ended.started_at
    await deck.finish(claimed)
    assert [each.outcome for each in (await deck.show(run_id)).attempts] == [
        "timed_out",
        "timed_out",
        "completed",
    ]


async def test_an_unknown_run_is_none(deck: Deck) -> None:
    """Reading a run that is not there is an answer, not an error."""
    found = await deck.database.read(detail.show, await deck.now(), deck.scope, new_id())
    assert found is None
    assert await logs(deck, new_id()) == []


async def test_a_log_is_followed_by_its_ids(deck: Deck) -> None:
    """Each look after the last id seen brings what is new, in order, at most as much as asked for."""
    claimed = await deck.started()
    await deck.database.write(store_report, report(claimed, *(f"line {n}" for n in range(5))))
    first = await logs(deck, claimed.id, limit=3)
    rest = await logs(deck, claimed.id, after=first[-1].id)
    assert [entry.message for entry in first + rest] == [f"line {n}" for n in range(5)]
    assert await logs(deck, claimed.id, after=rest[-1].id) == []
    await deck.database.write(store_report, report(claimed, "line 5"))
    assert [entry.message for entry in await logs(deck, claimed.id, after=rest[-1].id)] == ["line 5"]


async def test_the_tail_of_a_log(deck: Deck) -> None:
    """The last lines, oldest first; a longer tail than there is log is the whole log."""
    claimed = await deck.started()
    await deck.database.write(store_report, report(claimed, *(f"line {n}" for n in range(5))))
    tail = await logs(deck, claimed.id, newest=True, limit=2)
    assert [entry.message for entry in tail] == ["line 3", "line 4"]
    assert len(await logs(deck, claimed.id, newest=True, limit=50)) == 5


async def test_lines_of_other_runs_are_not_between(deck: Deck) -> None:
    """Two runs that log in turn each have their own log."""
    await deck.enqueue_many(2)
    first, second = await deck.claim(2)
    for number in range(3):
        for run in (first, second):
            await deck.database.write(store_report, report(run, f"{run.id} {number}"))
    for run in (first, second):
        assert [entry.message for entry in await logs(deck, run.id)] == [f"{run.id} {n}" for n in range(3)]


async def test_the_record_names_what_may_be_done(deck: Deck) -> None:
    """`actions` follows the status: cancel while active and not asked yet, retry once ended without completing."""
    claimed = await deck.started(max_attempts=1)
    assert (await deck.show(claimed.id)).actions == ("cancel",)
    await deck.cancel(claimed.id)
    assert (await deck.show(claimed.id)).actions == ()
    await deck.finish(claimed, AttemptOutcome.CANCELLED)
    assert (await deck.show(claimed.id)).actions == ("retry",)
    done = await deck.started()
    await deck.finish(done)
    assert (await deck.show(done.id)).actions == ()
