"""What a worker writes while it holds runs: beats, progress, log lines and checkpoints, all guarded by the fence."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from jobdeck.errors import StaleLease
from jobdeck.ids import new_id
from jobdeck.model import LogEntry, Progress
from jobdeck.states import AttemptOutcome
from jobdeck.store.leases import (
    Beat,
    Held,
    LeaseCheck,
    LogLine,
    Report,
    SaveCheckpoint,
    beat,
    cancel_flags,
    check_lease,
    save_checkpoint,
)
from jobdeck.store.leases import report as store_report
from jobdeck.store.lists import detail
from jobdeck.store.schema import checkpoints, leases, run_logs
from tests.store.deck import WORKER, Deck, report


async def beaten(deck: Deck, *run_ids: UUID, worker: UUID = WORKER, stalled: bool = False) -> list[Held]:
    """A beat of 30 seconds."""
    item = Beat(worker, run_ids, 30_000_000, stalled, len(run_ids), 0, "live")
    return await deck.database.write(beat, item)


async def log_of(deck: Deck, run_id: UUID) -> list[LogEntry]:
    return await deck.database.read(detail.logs, deck.database.differences, deck.scope, run_id)


async def test_a_beat_extends_every_lease_it_names(deck: Deck) -> None:
    """Leases end a lease after the beat by the database's clock, and the record shows the heartbeat."""
    await deck.enqueue_many(3)
    first, second, third = await deck.claim(3)
    deck.forward(10)
    before = await deck.now()
    held = await beaten(deck, first.id, second.id)
    after = await deck.now()
    assert {(each.run_id, each.fence) for each in held} == {(first.id, 1), (second.id, 1)}
    ends = {row["run_id"]: row["lease_until"] for row in await deck.rows(leases)}
    assert before <= ends[first.id] - 30_000_000 <= after
    assert ends[third.id] == third.lease_until
    run = await deck.show(first.id)
    assert run.heartbeat_at is not None
    assert run.started_at is not None
    assert run.heartbeat_at - run.started_at >= timedelta(seconds=10)


async def test_an_expired_lease_is_never_extended(deck: Deck) -> None:
    """A worker that slept through its lease does not get it back by beating, even before anybody took the run."""
    claimed = await deck.started()
    deck.database.offset_us += claimed.lease_until - await deck.now()
    assert await beaten(deck, claimed.id) == []
    (row,) = await deck.rows(leases)
    assert row["lease_until"] == claimed.lease_until
    assert len(await deck.recover()) == 1


async def test_a_beat_in_time_keeps_a_lease_that_a_clock_has_ended(deck: Deck) -> None:
    """The database's clock is set ahead: who beat less than a lease ago holds what is still its own, and no more."""
    await deck.enqueue_many(2)
    kept, lost = await deck.claim(2)
    deck.forward(7_200)
    other = new_id()
    for worker, run, held in ((other, kept, []), (WORKER, kept, [Held(kept.id, kept.fence, False)])):
        item = Beat(worker, (run.id,), 30_000_000, False, 1, 0, "live", in_time=True)
        assert await deck.database.write(beat, item) == held
    assert [ended.run_id for ended in await deck.recover()] == [lost.id]
    item = Beat(WORKER, (kept.id, lost.id), 30_000_000, False, 2, 0, "live", in_time=True)
    assert [each.run_id for each in await deck.database.write(beat, item)] == [kept.id]


async def test_a_beat_holds_nothing_of_others(deck: Deck) -> None:
    """Naming a run of another worker, an unknown run or one that was taken over extends nothing."""
    claimed = await deck.started()
    assert await beaten(deck, claimed.id, new_id(), worker=new_id()) == []
    deck.forward(31)
    await deck.recover()
    other = new_id()
    (again,) = await deck.claim(worker=other)
    assert await beaten(deck, claimed.id) == []
    assert await beaten(deck, claimed.id, worker=other) == [Held(claimed.id, again.fence, False)]


async def test_a_beat_brings_the_cancel_requests(deck: Deck) -> None:
    """A run that was asked to stop says so in the next beat and in the flags that are read between beats."""
    await deck.enqueue_many(2)
    asked, other = await deck.claim(2)
    assert await deck.database.read(cancel_flags, WORKER) == []
    await deck.cancel(asked.id)
    held = {each.run_id: each.cancel_requested for each in await beaten(deck, asked.id, other.id)}
    assert held == {asked.id: True, other.id: False}
    assert await deck.database.read(cancel_flags, WORKER) == [(asked.id, asked.fence)]
    assert await deck.database.read(cancel_flags, new_id()) == []


async def test_a_blocked_loop_is_labelled(deck: Deck) -> None:
    """`stalled` in a beat shows at the runs it names until a later beat says otherwise; each change is a revision."""
    claimed = await deck.started()
    seen = []
    for stalled in (False, True, True, False):
        await beaten(deck, claimed.id, stalled=stalled)
        run = await deck.show(claimed.id)
        seen.append((run.label, run.revision))
    assert [label for label, _ in seen] == ["running", "stalled", "stalled", "running"]
    revisions = [revision for _, revision in seen]
    assert revisions[0] < revisions[1] == revisions[2] < revisions[3]


async def test_progress_that_stops_is_labelled(deck: Deck) -> None:
    """No progress for three times its usual gap, and at least 30 s, makes a run stalled; progress ends that."""
    claimed = await deck.started()
    slow = report(claimed, progress=Progress(1), gap=timedelta(seconds=20))
    await deck.database.write(store_report, slow)
    for ahead, label in ((59, "running"), (2, "stalled")):
        deck.forward(ahead)
        assert (await deck.show(claimed.id)).label == label
    await deck.database.write(store_report, slow._replace(progress=Progress(2)))
    assert (await deck.show(claimed.id)).label == "running"


async def test_without_a_usual_gap_nothing_is_stalled(deck: Deck) -> None:
    """A run that reported once, or never, may be silent for an hour; a fast one gets at least 30 s."""
    quiet, once, fast = [await deck.started(priority=n) for n in (1, 2, 3)]
    await deck.database.write(store_report, report(once, progress=Progress(1)))
    await deck.database.write(
        store_report, report(fast, progress=Progress(1), gap=timedelta(milliseconds=10))
    )
    deck.forward(29)
    assert [(await deck.show(run.id)).label for run in (quiet, once, fast)] == ["running"] * 3
    deck.forward(3_600)
    labels = [(await deck.show(run.id)).label for run in (quiet, once, fast)]
    assert labels == ["running", "running", "stalled"]


async def test_progress_is_seen_while_the_run_goes_on(deck: Deck) -> None:
    """The newest progress of the attempt is in the record, whole, with a new revision each time."""
    claimed = await deck.started()
    revisions = []
    for progress in (Progress(1, 10), Progress(5, 10, 1, 2, "page 5"), Progress(0, None)):
        await deck.database.write(store_report, report(claimed, progress=progress))
        run = await deck.show(claimed.id)
        assert run.progress == progress
        revisions.append(run.revision)
    assert revisions == sorted(set(revisions))


async def test_log_lines_keep_their_order(deck: Deck) -> None:
    """Lines of several reports and attempts stand in the order they were said, with ids that grow."""
    claimed = await deck.started()
    for start in range(0, 300, 100):
        lines = [f"line {number}" for number in range(start, start + 100)]
        await deck.database.write(store_report, report(claimed, *lines))
    await deck.finish(claimed, AttemptOutcome.ERROR)
    (again,) = await deck.claim()
    await deck.database.write(store_report, report(again, "line 300"))
    entries = await log_of(deck, claimed.id)
    assert [entry.message for entry in entries] == [f"line {number}" for number in range(301)]
    ids = [entry.id for entry in entries]
    assert ids == sorted(set(ids))
    assert [entry.attempt for entry in entries] == [1] * 300 + [2]


async def test_a_line_is_stored_as_it_was_said(deck: Deck) -> None:
    """Time, level, text and fields of a line come back unchanged, whatever script it is written in."""
    claimed = await deck.started()
    line = LogLine(1_700_000_000_123_456, "warn", "Ünïcode 日本 🚀 %s {x} \\n", '{"page":3,"n":null}')
    item = Report(claimed.id, claimed.fence, 1, None, None, (line,), 50)
    await deck.database.write(store_report, item)
    (entry,) = await log_of(deck, claimed.id)
    assert (entry.level, entry.message, entry.fields) == (line.level, line.message, {"page": 3, "n": None})
    assert (entry.at.timestamp(), entry.at.microsecond) == (1_700_000_000.123456, 123_456)


async def test_reports_of_many_runs_in_one_batch(deck: Deck) -> None:
    """Good and stale reports in one batch: the good are stored, each stale one is refused alone."""
    await deck.enqueue_many(6)
    claimed = await deck.claim(6)
    items = [report(run, f"of {run.id}", progress=Progress(3)) for run in claimed]
    items[2] = items[2]._replace(fence=9)
    items[4] = items[4]._replace(run_id=new_id())
    results = await deck.database.write_many(store_report, items)
    assert [type(result) for result in results] == [
        type(None), type(None), StaleLease, type(None), StaleLease, type(None),
    ]  # fmt: skip
    for place, run in enumerate(claimed):
        stored = place not in (2, 4)
        assert len(await log_of(deck, run.id)) == stored
        assert (await deck.show(run.id)).progress == (Progress(3) if stored else Progress())


async def test_two_reports_of_one_run_in_one_batch(deck: Deck) -> None:
    """The later one's progress counts, the lines of both are kept in order."""
    claimed = await deck.started()
    items = [report(claimed, f"line {n}", progress=Progress(n)) for n in (1, 2)]
    assert await deck.database.write_many(store_report, items) == [None, None]
    assert (await deck.show(claimed.id)).progress.processed == 2
    assert [entry.message for entry in await log_of(deck, claimed.id)] == ["line 1", "line 2"]


async def test_a_lost_lease_reports_nothing(deck: Deck) -> None:
    """After another worker took over, the first one's report and checkpoint are refused and leave nothing."""
    old = await deck.started()
    deck.forward(31)
    await deck.recover()
    for item in (report(old, "late", progress=Progress(9)), report(old)):
        with pytest.raises(StaleLease):
            await deck.database.write(store_report, item)
    (new,) = await deck.claim()
    with pytest.raises(StaleLease):
        await deck.database.write(store_report, report(old, "late", progress=Progress(9)))
    with pytest.raises(StaleLease):
        await deck.database.write(save_checkpoint, SaveCheckpoint(old.id, old.fence, '"late"'))
    assert (await deck.rows(run_logs), await deck.rows(checkpoints)) == ([], [])
    assert (await deck.show(new.id)).progress == Progress()


async def test_the_newest_checkpoint_stays(deck: Deck) -> None:
    """Saved one by one or two in one batch, the last state is kept, once; a stale one among them fails alone."""
    claimed = await deck.started()
    await deck.database.write(save_checkpoint, SaveCheckpoint(claimed.id, claimed.fence, '"a"'))
    items = [
        SaveCheckpoint(claimed.id, fence, state) for fence, state in ((1, '"b"'), (7, '"x"'), (1, '"c"'))
    ]
    results = await deck.database.write_many(save_checkpoint, items)
    assert [type(result) for result in results] == [type(None), StaleLease, type(None)]
    (row,) = await deck.rows(checkpoints)
    assert (row["run_id"], row["fence"], row["state"]) == (claimed.id, claimed.fence, '"c"')


async def test_a_new_attempt_replaces_the_checkpoint_of_the_old_one(deck: Deck) -> None:
    """There is one checkpoint for a run, with the fence of the attempt that saved it last."""
    old = await deck.started()
    await deck.database.write(save_checkpoint, SaveCheckpoint(old.id, old.fence, '"old"'))
    await deck.finish(old, AttemptOutcome.ERROR)
    (new,) = await deck.claim()
    await deck.database.write(save_checkpoint, SaveCheckpoint(new.id, new.fence, '"new"'))
    (row,) = await deck.rows(checkpoints)
    assert (row["fence"], row["state"]) == (2, '"new"')


async def test_a_lease_can_be_checked(deck: Deck) -> None:
    """The current fence of a living lease passes; another fence, an expired lease and an ended run do not.

    A worker whose beats are in time is told of a lease that a clock has ended that it is its own.
    """
    claimed = await deck.started()

    async def check(fence: int, in_time: bool = False) -> None:
        await deck.database.write(check_lease, LeaseCheck(claimed.id, fence, in_time))

    await check(claimed.fence)
    with pytest.raises(StaleLease):
        await check(claimed.fence + 1)
    deck.forward(31)
    with pytest.raises(StaleLease):
        await check(claimed.fence)
    await check(claimed.fence, in_time=True)
    with pytest.raises(StaleLease):
        await check(claimed.fence + 1, in_time=True)
    deck.forward(-31)
    await check(claimed.fence)
    await deck.finish(claimed)
    with pytest.raises(StaleLease):
        await check(claimed.fence, in_time=True)


async def test_verbs_of_all_kinds_join_one_commit(deck: Deck) -> None:
    """Beats, reports, checkpoints and ends at once: each does its work and nobody gets another's answer."""
    await deck.enqueue_many(12)
    claimed = await deck.claim(12)
    held, *rest = await asyncio.gather(
        beaten(deck, *(run.id for run in claimed)),
        *(deck.database.write(store_report, report(run, str(run.id))) for run in claimed),
        *(
            deck.database.write(save_checkpoint, SaveCheckpoint(run.id, 1, f'"{run.id}"'))
            for run in claimed[:6]
        ),
        *(deck.finish(run, result=f'"{run.id}"') for run in claimed[6:]),
        return_exceptions=True,
    )
    assert not [result for result in rest if isinstance(result, Exception)]
    assert isinstance(held, list)
    for place, run in enumerate(claimed):
        assert [entry.message for entry in await log_of(deck, run.id)] == [str(run.id)]
        assert (await deck.show(run.id)).result == (None if place < 6 else str(run.id))
    assert {row["state"] for row in await deck.rows(checkpoints)} == {f'"{run.id}"' for run in claimed[:6]}
