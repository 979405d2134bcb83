"""Finish: the outcome of an attempt is written once, by the holder of the lease, and makes of the run what it must."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from jobdeck.errors import JobdeckError, StaleLease
from jobdeck.model import Progress
from jobdeck.states import AttemptOutcome, FailureKind, Status
from jobdeck.store import changes
from jobdeck.store.claim import ClaimedRun
from jobdeck.store.finish import Ended, Finish, Recover, finish, recover
from jobdeck.store.leases import report as store_report
from jobdeck.store.lists import detail
from jobdeck.store.schema import attempts, leases, run_events, run_logs, runs
from jobdeck.verdict import Ending, Facts, decide
from tests.store.deck import Deck, report
from tests.store.rival import Rival

OUTCOMES = (
    AttemptOutcome.COMPLETED, AttemptOutcome.ERROR, AttemptOutcome.TIMED_OUT, AttemptOutcome.CANCELLED,
    AttemptOutcome.ABANDONED, AttemptOutcome.INTERRUPTED, AttemptOutcome.SNOOZED, AttemptOutcome.CRASHED,
)  # fmt: skip


async def test_every_outcome_with_and_without_a_cancel_request(deck: Deck) -> None:
    """What is stored is what the verdict says, for each outcome x final x attempts left x cancel requested."""
    cases = list(product(OUTCOMES, (False, True), (1, 3), (False, True)))
    for outcome, final, max_attempts, cancelled in cases:
        claimed = await deck.started(max_attempts=max_attempts, priority=1)
        if cancelled:
            await deck.cancel(claimed.id)
        ending = Ending(outcome, error="why", traceback="where", retry_in_us=7_000_000, final=final)
        await deck.database.write(finish, Finish(claimed.id, claimed.fence, ending))
        wanted = decide(ending, Facts(0, 0, max_attempts, cancelled))
        run = await deck.show(claimed.id)
        case = (outcome, final, max_attempts, cancelled)
        assert (run.status, run.failure_kind, run.failures, run.crash_count) == (
            wanted.status, wanted.failure_kind, wanted.failures, wanted.crash_count,
        ), case  # fmt: skip
        assert (run.finished_at is None) == (run.status is Status.PENDING), case
        assert [attempt.outcome for attempt in run.attempts] == [outcome], case
        assert (run.cancel_requested_at is not None) == cancelled, case
        if run.status is Status.PENDING:
            ended = run.attempts[0].finished_at
            assert ended is not None
            assert run.due_at - ended == timedelta(microseconds=wanted.wait_us), case
            await deck.cancel(claimed.id)
    assert len(await deck.rows(attempts)) == len(cases)
    assert await deck.rows(leases) == []


async def test_a_completed_run_keeps_its_result(deck: Deck) -> None:
    """Result, end and duration are in the record; the attempt and the event say who and when."""
    claimed = await deck.started()
    deck.forward(5)
    ended = await deck.finish(claimed, result='{"synced":3}')
    assert (ended.run_id, ended.fence, ended.status) == (claimed.id, claimed.fence, Status.COMPLETED)
    run = await deck.show(claimed.id)
    assert (run.status, run.result, run.error, run.worker_id) == (
        Status.COMPLETED, {"synced": 3}, None, None,
    )  # fmt: skip
    assert run.duration is not None
    assert timedelta(seconds=5) <= run.duration < timedelta(seconds=15)
    (attempt,) = run.attempts
    assert (attempt.attempt, attempt.fence, attempt.worker) == (1, 1, "host:1")
    assert (attempt.started_at, attempt.finished_at) == (run.started_at, run.finished_at)
    event = (await deck.rows(run_events, run_id=claimed.id))[-1]
    assert (event["kind"], event["actor"], event["fence"]) == ("attempt_ended", "host:1", 1)
    assert json.loads(event["data"]) == {"attempt": 1, "outcome": "completed", "status": "completed"}


async def test_a_failure_goes_on_until_its_attempts_are_used_up(deck: Deck) -> None:
    """Two failures of three allowed wait for their backoff, the third makes the run dead; error and traceback stay."""
    run_id = await deck.enqueue(max_attempts=3)
    for number in (1, 2, 3):
        (claimed,) = await deck.claim()
        await deck.finish(
            claimed,
            AttemptOutcome.ERROR,
            error=f"no {number}",
            traceback=f"line {number}",
            retry_in_us=2_000_000,
        )
        run = await deck.show(run_id)
        assert (run.failures, run.error, run.traceback) == (number, f"no {number}", f"line {number}")
        assert run.failure_kind is FailureKind.ERROR
        assert run.label == ("retrying" if number < 3 else "dead")
        assert await deck.claim() == []
        deck.forward(2)
    assert [(attempt.attempt, attempt.outcome, attempt.error) for attempt in run.attempts] == [
        (1, "error", "no 1"), (2, "error", "no 2"), (3, "error", "no 3"),
    ]  # fmt: skip
    assert await deck.claim() == []


async def test_an_interrupted_attempt_burns_nothing(deck: Deck) -> None:
    """A shutdown and a snooze give the run back uncounted: with one attempt allowed it may be taken ten times."""
    run_id = await deck.enqueue(max_attempts=1)
    for _ in range(5):
        (claimed,) = await deck.claim()
        await deck.finish(claimed, AttemptOutcome.INTERRUPTED)
        (claimed,) = await deck.claim()
        await deck.finish(claimed, AttemptOutcome.SNOOZED, retry_in_us=60_000_000)
        assert await deck.claim() == []
        deck.forward(60)
    run = await deck.show(run_id)
    assert (run.attempt, run.failures, run.crash_count, run.error) == (10, 0, 0, None)


async def test_the_last_report_is_part_of_the_end(deck: Deck) -> None:
    """Progress and lines that the reporter still held are stored with the outcome, after the earlier ones."""
    claimed = await deck.started()
    await deck.database.write(store_report, report(claimed, "first", progress=Progress(10, 20)))
    last = Progress(20, 20, failed=1, skipped=2, message="done")
    await deck.finish(claimed, last_report=report(claimed, "last", progress=last))
    run = await deck.show(claimed.id)
    assert run.progress == last
    (row,) = await deck.rows(runs)
    assert row["log_bytes"] == 100
    lines = await deck.database.read(detail.logs, deck.database.differences, deck.scope, claimed.id)
    assert [line.message for line in lines] == ["first", "last"]


async def test_progress_of_the_lease_is_kept_where_there_is_no_last_report(deck: Deck) -> None:
    """What was reported while it ran stays in the record after the end, also when the run goes on later."""
    claimed = await deck.started()
    seen = Progress(5, None, failed=1, skipped=1, message="page 5")
    await deck.database.write(store_report, report(claimed, progress=seen))
    await deck.finish(claimed, AttemptOutcome.ERROR)
    assert (await deck.show(claimed.id)).progress == seen


async def test_an_old_fence_writes_nothing(deck: Deck) -> None:
    """After a recovery and a new claim the first worker's outcome, progress and lines are refused."""
    old = await deck.started()
    deck.forward(31)
    await deck.recover()
    (new,) = await deck.claim()
    with pytest.raises(StaleLease, match="lost"):
        await deck.finish(old, last_report=report(old, "late", progress=Progress(99)), result='"late"')
    run = await deck.show(old.id)
    assert (run.status, run.attempt, run.progress, run.result) == (Status.RUNNING, 2, Progress(), None)
    await deck.finish(new, result='"new"')
    assert (await deck.show(old.id)).result == "new"
    assert await deck.rows(run_logs) == []


async def test_a_second_finish_with_the_same_fence_is_refused(deck: Deck) -> None:
    """The first outcome stays, whether the second comes later or in the same batch, or for a run that never was."""
    claimed = await deck.started()
    await deck.finish(claimed, result="1")
    with pytest.raises(StaleLease):
        await deck.finish(claimed, AttemptOutcome.ERROR)
    twice = await deck.started()
    items = [Finish(twice.id, twice.fence, Ending(AttemptOutcome.COMPLETED, result=text)) for text in "12"]
    results = await deck.database.write_many(finish, items)
    assert isinstance(results[0], Ended)
    assert isinstance(results[1], StaleLease)
    assert [(await deck.show(run.id)).result for run in (claimed, twice)] == [1, 1]
    assert len(await deck.rows(attempts)) == 2


async def test_a_batch_of_finishes_is_answered_one_by_one(deck: Deck) -> None:
    """Good and stale outcomes in one batch: each gets its own answer at its own place."""
    await deck.enqueue_many(20)
    claimed = await deck.claim(20)
    stale = {run.id for run in claimed[::3]}

    def fence(run: ClaimedRun) -> int:
        return run.fence + 1 if run.id in stale else run.fence

    items = [Finish(run.id, fence(run), Ending(AttemptOutcome.COMPLETED)) for run in claimed]
    results = await deck.database.write_many(finish, items)
    for run, result in zip(claimed, results, strict=True):
        if run.id in stale:
            assert isinstance(result, StaleLease)
        else:
            assert isinstance(result, Ended)
            assert result.run_id == run.id
    running = {row["id"] for row in await deck.rows(runs, status="running")}
    assert running == stale


async def test_the_revision_grows_with_every_visible_change(deck: Deck) -> None:
    """Through a whole life (two attempts, progress, cancel, retry) each state has a revision of its own, rising."""
    run_id = await deck.enqueue(max_attempts=3)
    seen = [(await deck.show(run_id)).revision]

    async def look() -> None:
        seen.append((await deck.show(run_id)).revision)

    for outcome in (AttemptOutcome.ERROR, AttemptOutcome.CANCELLED):
        (claimed,) = await deck.claim()
        await look()
        for count in (1, 2):
            await deck.database.write(store_report, report(claimed, progress=Progress(count)))
            await look()
        if outcome is AttemptOutcome.CANCELLED:
            await deck.cancel(run_id)
            await look()
        await deck.finish(claimed, outcome, last_report=report(claimed, progress=Progress(3)))
        await look()
    await deck.retry(run_id)
    await look()
    await deck.cancel(run_id)
    await look()
    assert seen == sorted(set(seen)), seen
    assert len(seen) == 12


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_a_cancel_under_way_is_not_lost(deck: Deck, database_url: str) -> None:
    """A cancel commits while a failed attempt waits for the row: the run ends cancelled and is not tried again."""
    claimed = await deck.started()
    with Rival(database_url) as rival:
        rival.run(changes.cancel, changes.Cancel(deck.scope.team_id, claimed.id, "ada", None))
        waiting = asyncio.create_task(deck.finish(claimed, AttemptOutcome.ERROR))
        await rival.until_waited_for()
        rival.commit()
    assert (await waiting).status is Status.CANCELLED
    assert (await deck.show(claimed.id)).status is Status.CANCELLED


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_a_recovery_under_way_makes_the_lease_stale(deck: Deck, database_url: str) -> None:
    """A recovery commits while the old worker's outcome waits for the row: that worker is told StaleLease."""
    claimed = await deck.started()
    with Rival(database_url, offset_us=31_000_000) as rival:
        assert len(rival.run(recover, Recover("rival"))) == 1
        waiting = asyncio.create_task(deck.finish(claimed))
        await rival.until_waited_for()
        rival.commit()
    with pytest.raises(StaleLease):
        await waiting
    run = await deck.show(claimed.id)
    assert (run.status, [attempt.outcome for attempt in run.attempts]) == (Status.PENDING, ["crashed"])


async def test_finish_fails_only_what_is_stale(deck: Deck) -> None:
    """An error of finish is one of jobdeck's own, so that a worker knows what to do."""
    claimed = await deck.started()
    wrong = Finish(claimed.id, claimed.fence + 7, Ending(AttemptOutcome.COMPLETED))
    (result,) = await deck.database.write_many(finish, [wrong])
    assert isinstance(result, JobdeckError)
    assert result.exit_code == 5


async def test_when_it_was_due_stays(deck: Deck) -> None:
    """A run that has ended still says for when it was asked; one that is tried again, when that will be."""
    run_id = await deck.enqueue(due_at=datetime(2020, 1, 1, tzinfo=UTC), max_attempts=2)
    (claimed,) = await deck.claim()
    await deck.finish(claimed, AttemptOutcome.ERROR, retry_in_us=0)
    again = (await deck.show(run_id)).due_at
    assert again > datetime(2026, 1, 1, tzinfo=UTC)
    (claimed,) = await deck.claim()
    await deck.finish(claimed)
    assert (await deck.show(run_id)).due_at == again
    first = await deck.enqueue(due_at=datetime(2020, 1, 1, tzinfo=UTC))
    (claimed,) = await deck.claim()
    await deck.finish(claimed)
    assert (await deck.show(first)).due_at == datetime(2020, 1, 1, tzinfo=UTC)
