"""Pruning: what has been kept long enough goes with all that hangs on it; what is needed stays."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from jobdeck.errors import NotFound
from jobdeck.ids import new_id
from jobdeck.model import JobType, Progress, RunExtras
from jobdeck.notifiers import DeliveryState
from jobdeck.retention import Retention, format_keep, parse_keep
from jobdeck.states import TERMINAL, AttemptOutcome, Condition, Status
from jobdeck.store.fleet import Register, register
from jobdeck.store.house import prune as pruner
from jobdeck.store.house import pruning
from jobdeck.store.house.pins import Pin, pin
from jobdeck.store.house.prune import APART, HANGING, Batch, Lane, lanes, look, prune
from jobdeck.store.house.pruning import PruneReport, keeps, prune_all, prune_operations
from jobdeck.store.leases import SaveCheckpoint, save_checkpoint
from jobdeck.store.schema import (
    acks,
    bulk_operations,
    bulk_steps,
    metadata,
    outbox,
    run_counts,
    run_parents,
    runs,
)
from jobdeck.store.transaction import Tx
from tests.bulk import Bulk
from tests.store.deck import Deck, execute_statement, report, team_of
from tests.store.test_plans import Check, bounded

__all__ = ["bounded"]

DAY = 86_400.0
ALL = keeps(Retention())


async def pruned(deck: Deck, **options: Any) -> PruneReport:
    return await prune_all(deck.database, options.pop("keep", ALL), **options)


async def left(deck: Deck) -> set[UUID]:
    return {row["id"] for row in await deck.rows(runs)}


async def counted(deck: Deck) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in await deck.rows(run_counts):
        found[row["status"]] = found.get(row["status"], 0) + row["runs"]
    return {status: count for status, count in found.items() if count}


async def ended(deck: Deck, **facts: Any) -> UUID:
    """A completed run."""
    run = await deck.started(**facts)
    await deck.finish(run)
    return run.id


def _started_by(run_id: UUID, parent: UUID) -> dict[str, Any]:
    return {"run_id": run_id, "parent_run_id": parent, "job_id": new_id()}


async def acked(deck: Deck, run_id: UUID) -> None:
    """Store an ack of the run."""
    facts = {"token_hash": "h", "fence": 1, "said": "{}", "status": "completed", "due_at": 0, "at": 0}
    row = {"run_id": run_id, "cancel_requested": False, **facts}
    await deck.database.write(execute_statement, acks.insert().values(row))


async def told_of(deck: Deck, run_id: UUID, state: DeliveryState) -> UUID:
    """Store a notification of the run's end."""
    message = new_id()
    row = {
        "id": message,
        "team_id": deck.scope.team_id,
        "run_id": run_id,
        "fence": 1,
        "event": "run.completed",
    }
    to = {
        "channel": "callback",
        "receiver": "r",
        "owner_id": new_id(),
        "endpoint": "https://r/",
        "body": "{}",
    }
    when = {"state": state, "tries_max": 8, "next_at": 0, "created_at": 0}
    await deck.database.write(execute_statement, outbox.insert().values(row | to | when))
    return message


def test_whatever_hangs_on_a_run_is_known() -> None:
    """A table with a column run_id is dropped from with its run, or goes by itself and is named as such."""
    naming = {table.name for table in metadata.tables.values() if "run_id" in table.c}
    assert naming == {column.table.name for column in HANGING} | APART


@pytest.mark.parametrize(
    ("text", "keep"), [("14d", timedelta(days=14)), ("never", None), ("0", None), ("0s", None)]
)
def test_how_long_is_said_in_words(text: str, keep: timedelta | None) -> None:
    """A duration; `never` and nothing mean for good."""
    assert parse_keep(text) == keep
    assert parse_keep(format_keep(keep)) == keep


async def test_each_status_has_its_time(deck: Deck) -> None:
    """Completed runs go after 14 days and others after 90, not a moment sooner, whatever is active stays."""
    made = {status: await deck.with_status(status) for status in sorted(TERMINAL)}
    active = {await deck.with_status(Status.AWAITING_APPROVAL), await deck.with_status(Status.PENDING)}
    deck.forward(14 * DAY - 60)
    assert (await pruned(deck)).runs == 0
    deck.forward(120)
    assert (await pruned(deck)).by_status[Status.COMPLETED].runs == 1
    assert await left(deck) == active | set(made.values()) - {made[Status.COMPLETED]}
    deck.forward(76 * DAY)
    done = await pruned(deck)
    assert {status: each.runs for status, each in done.by_status.items()} == {
        status: 0 if status is Status.COMPLETED else 1 for status in TERMINAL
    }
    assert await left(deck) == active
    assert await counted(deck) == {"pending": 1, "awaiting_approval": 1}


async def test_what_is_never_dropped(deck: Deck) -> None:
    """A status without an end of its time is left out, and so is one that was not asked for."""
    made = {await deck.with_status(status) for status in (Status.COMPLETED, Status.FAILED)}
    deck.forward(400 * DAY)
    assert (await pruned(deck, keep=keeps(Retention(completed=None)))).runs == 1
    assert len(await left(deck)) == 1
    assert (await pruned(deck, keep=keeps(Retention(), [Status.DEAD]))).runs == 0
    assert (await left(deck)) < made


async def test_everything_goes_with_a_run(deck: Deck) -> None:
    """All that hangs on it: nothing of it is left, all of another run is."""
    first = await ended(deck)
    waits = RunExtras(after=((first, Condition.FINISHED),), requires_approval=False)
    for kept in (False, True):
        run = await deck.started(extras=waits)
        await deck.database.write(save_checkpoint, SaveCheckpoint(run.id, run.fence, "{}"))
        await deck.finish(run, last_report=report(run, "a line", progress=Progress(1)))
        await deck.database.write(execute_statement, run_parents.insert().values(_started_by(run.id, first)))
        if kept:
            await deck.database.write(pin, Pin(deck.scope.team_id, run.id, "ann", True))
    await told_of(deck, run.id, DeliveryState.DELIVERED)
    await acked(deck, run.id)
    tables = [column.table for column in HANGING]
    before = {table.name: len(await deck.rows(table)) for table in tables}
    assert all(before.values()), before
    deck.forward(15 * DAY)
    assert (await pruned(deck)).runs == 0, "all three belong together, and one is pinned"
    await deck.database.write(pin, Pin(deck.scope.team_id, run.id, "ann", False))
    assert (await pruned(deck)).runs == 3
    assert {table.name: len(await deck.rows(table)) for table in tables} == dict.fromkeys(before, 0)
    assert await counted(deck) == {}


async def test_a_pinned_run_is_kept(deck: Deck) -> None:
    """Until it is let go; of another team's run and of none there is nothing to pin."""
    run_id, other = await ended(deck), await ended(deck)
    await deck.database.write(pin, Pin(deck.scope.team_id, run_id, "ann", True, "evidence"))
    await deck.database.write(pin, Pin(deck.scope.team_id, run_id, "ann", True))
    run = await deck.show(run_id)
    assert run.pinned
    deck.forward(15 * DAY)
    found = await pruned(deck, dry_run=True)
    assert (found.runs, found.kept, await left(deck)) == (1, 1, {run_id, other})
    done = await pruned(deck)
    assert (done.runs, done.kept, await left(deck)) == (1, 1, {run_id})
    stranger = await team_of(deck.database, "strangers")
    for team, wanted in ((stranger.scope.team_id, run_id), (deck.scope.team_id, new_id())):
        with pytest.raises(NotFound):
            await deck.database.write(pin, Pin(team, wanted, "eve", False))
    await deck.database.write(pin, Pin(deck.scope.team_id, run_id, "ann", False))
    assert (await deck.show(run_id)).revision == run.revision + 1
    assert (await pruned(deck)).runs == 1
    assert await left(deck) == set()


@pytest.mark.parametrize(
    "link", ["parent", "child", "continues", "continued", "awaited", "started", "starts"]
)
async def test_families_stay_together(deck: Deck, link: str) -> None:
    """A run goes neither before its parent, child, predecessor or successor has ended, nor before one that waits."""
    old = await ended(deck)
    between = await ended(deck, **{"parent_run_id": old} if link in ("parent", "child") else {})
    if link in ("continues", "continued"):
        await deck.set_run(between, continuation_of=old)
    if link == "parent":
        # The active one is the eldest.
        await deck.set_run(old, parent_run_id=(active := await deck.enqueue()))
    elif link == "child":
        active = await deck.enqueue(parent_run_id=between)
    elif link == "continues":
        await deck.set_run(old, continuation_of=(active := await deck.enqueue()))
    elif link == "continued":
        active = await deck.enqueue(extras=RunExtras(continuation_of=between))
    elif link in ("started", "starts"):
        active = await deck.enqueue()
        pairs = (
            [(active, between), (between, old)] if link == "started" else [(old, between), (between, active)]
        )
        for run_id, parent in pairs:
            await deck.database.write(
                execute_statement, run_parents.insert().values(_started_by(run_id, parent))
            )
    else:
        await deck.set_run(between, parent_run_id=old)
        active = await deck.enqueue(extras=RunExtras(after=((between, Condition.FINISHED),)))
    alone = await ended(deck, priority=1)
    deck.forward(15 * DAY)
    done = await pruned(deck)
    assert (done.runs, done.kept) == (1, 2)
    assert await left(deck) == {old, between, active}
    assert alone not in await left(deck)
    await deck.cancel(active)
    assert (await pruned(deck)).runs == 2
    assert await left(deck) == {active}


@pytest.mark.parametrize("state", DeliveryState)
async def test_a_run_that_is_still_told_of_is_kept(deck: Deck, state: DeliveryState) -> None:
    """With its family, while a notification of its end waits or is being sent; not for one that has come to an end."""
    parent = await ended(deck)
    child = await ended(deck, parent_run_id=parent)
    message = await told_of(deck, child, state)
    deck.forward(15 * DAY)
    waits = state in (DeliveryState.PENDING, DeliveryState.SENDING)
    assert (await pruned(deck)).runs == (0 if waits else 2)
    assert await left(deck) == ({parent, child} if waits else set())
    assert [row["id"] for row in await deck.rows(outbox)] == ([message] if waits else [])
    sent = outbox.update().values(state=DeliveryState.DELIVERED)
    await deck.database.write(execute_statement, sent)
    await pruned(deck)
    assert (await left(deck), await deck.rows(outbox)) == (set(), [])


async def test_acts_on_many_runs_are_forgotten(deck: Deck, monkeypatch: pytest.MonkeyPatch) -> None:
    """90 days after their end, some at a time, with the steps that were never done; those that go on stay."""
    monkeypatch.setattr(pruner, "BATCH", 2)
    monkeypatch.setattr(pruning, "BATCH", 2)
    now = await deck.now()
    ends = [*range(5), int(89 * DAY), None]
    ids = [new_id() for _ in ends]
    for run_id, end in zip(ids, ends, strict=True):
        facts = {"team_id": deck.scope.team_id, "kind": "cancel", "state": "stopped", "filter": "{}"}
        at = {"created_at": now, "finished_at": None if end is None else now + end * 1_000_000}
        row = {"id": run_id, "requested_by": "ann", "own": False, **facts, **at}
        await deck.database.write(execute_statement, bulk_operations.insert().values(row))
        step = {"bulk_id": run_id, "number": 1, "targets": b""}
        await deck.database.write(execute_statement, bulk_steps.insert().values(step))
    assert await prune_operations(deck.database) == 0
    deck.forward(90 * DAY + 60)
    assert await prune_operations(deck.database) == 5
    assert [row["id"] for row in await deck.rows(bulk_operations)] == ids[5:]
    assert [row["bulk_id"] for row in await deck.rows(bulk_steps)] == ids[5:]


async def test_a_run_that_stands_for_a_key_is_kept(deck: Deck) -> None:
    """While a new run with its key would be answered with it."""
    keyed = await ended(deck, extras=RunExtras(idempotency_key="k", request="r"))
    window = RunExtras(dedupe_key="d", dedupe_window=timedelta(hours=30))
    deduped = await ended(deck, extras=window)
    short = dict.fromkeys(TERMINAL, timedelta(hours=1))
    deck.forward(2 * 3_600)
    assert (await pruned(deck, keep=short)).kept == 2
    deck.forward(23 * 3_600)
    assert (await pruned(deck, keep=short)).runs == 1
    assert await left(deck) == {deduped}
    assert keyed not in await left(deck)
    deck.forward(6 * 3_600)
    assert (await pruned(deck, keep=short)).runs == 1


async def test_a_dry_run_says_the_same_and_drops_nothing(deck: Deck) -> None:
    """Per status how many and since when, as pruning then says as well."""
    ids = await deck.enqueue_many(7)
    for run in await deck.claim(7):
        await deck.finish(run, AttemptOutcome.CANCELLED)
    deck.forward(91 * DAY)
    expected = await pruned(deck, dry_run=True)
    assert await left(deck) == set(ids)
    assert (await counted(deck)) == {"cancelled": 7}
    done = await pruned(deck)
    cancelled = (expected.by_status[Status.CANCELLED], done.by_status[Status.CANCELLED])
    assert [(each.runs, each.oldest) for each in cancelled] == 2 * [(7, cancelled[0].oldest)]
    assert cancelled[0].oldest is not None
    assert (expected.dry_run, done.dry_run) == (True, False)


async def test_it_goes_in_small_batches(deck: Deck, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never more runs in a transaction than a batch has, nor much more log; each batch is told."""
    monkeypatch.setattr(pruner, "BATCH", 4)
    monkeypatch.setattr(pruner, "_LOG_BYTES", 250)
    await deck.enqueue_many(10)
    for run in await deck.claim(10):
        await deck.finish(run, last_report=report(run, "a line of log"))
    deck.forward(15 * DAY)
    told: list[int] = []
    await pruned(deck, each=lambda so_far: told.append(so_far.runs))
    steps = [after - before for before, after in zip([0, *told], told, strict=False) if after > before]
    assert steps == [2, 2, 2, 2, 2]
    assert await left(deck) == set()


async def test_whoever_listens_may_end_it(deck: Deck, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was dropped by then stays dropped, and its counters are right."""
    monkeypatch.setattr(pruner, "BATCH", 3)
    await deck.enqueue_many(9)
    for run in await deck.claim(9):
        await deck.finish(run)
    deck.forward(15 * DAY)

    def enough(so_far: PruneReport) -> None:
        if so_far.runs >= 6:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        await pruned(deck, each=enough)
    assert await counted(deck) == {"completed": 3}


async def test_system_jobs_go_too_and_are_not_counted(deck: Deck) -> None:
    """Runs that stand in no list and in no count."""
    kind = JobType("system.cleanup", "Cleanup", "system", "system", {}, {}, "tests", "1", "", ())
    item = Register(new_id(), "host", 1, "1", (), 1, 1_000_000, (kind,), ("system.cleanup",))
    await deck.database.write(register, item)
    await ended(deck, job_type="system.cleanup")
    deck.forward(15 * DAY)
    assert (await pruned(deck)).runs == 1
    assert (await left(deck), await counted(deck)) == (set(), {})


async def test_a_run_that_was_retried_meanwhile_stays(deck: Deck) -> None:
    """What was chosen is looked at again under its lock."""
    failed = await deck.with_status(Status.FAILED)
    deck.forward(91 * DAY)
    now = await deck.now()
    batch = Batch(Lane(deck.scope.team_id, Status.FAILED), now)

    def chosen(conn: Any) -> Collection[UUID]:
        return look(conn, deck.database.differences, now, batch).ids

    assert list(await deck.database.read(chosen)) == [failed]
    await deck.retry(failed)
    assert (await deck.database.write(prune, batch)).ids == ()
    assert await left(deck) == {failed}


async def test_looking_is_bounded(bounded: Check) -> None:
    """A batch touches as many runs as it has, at the old end of a million as anywhere, however few of them may go."""
    for status in (Status.COMPLETED, Status.EXPIRED):
        for share in (0.0, 0.5, 1.0):

            def work(tx: Tx, made: Bulk, status: Status = status, share: float = share) -> None:
                before = made.now - int((1 - share) * 365 * DAY * 1_000_000)
                look(tx.conn, tx.differences, tx.now, Batch(Lane(made.teams["big"].team_id, status), before))

            await bounded(work, status, share)

    def places(tx: Tx, _made: Bulk) -> None:
        assert lanes(tx.conn)

    await bounded(places)
