"""Workers and job types: what a worker registers, what state it is in, and why a run waits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

from jobdeck.model import JobType, Worker
from jobdeck.states import AttemptOutcome
from jobdeck.store.drain import nothing_left
from jobdeck.store.fleet import Leave, find_type, leave, list_types, list_workers
from jobdeck.store.leases import Beat, beat
from tests.store.deck import Deck
from tests.store.fleet import EMBED, MAIL, SYNC, join


async def beaten(deck: Deck, worker: UUID, *runs: UUID, state: str = "live", stalled: bool = False) -> None:
    await deck.database.write(beat, Beat(worker, runs, 30_000_000, stalled, len(runs), 17, state, 1_000))


async def workers_of(deck: Deck) -> list[Worker]:
    return await deck.database.read(list_workers, await deck.now())


async def state_of(deck: Deck, worker: UUID) -> str:
    (found,) = [each for each in await workers_of(deck) if each.id == worker]
    return found.state


async def test_a_worker_is_listed_as_it_registered(deck: Deck) -> None:
    """Host, process, version, slots, queues, job types and labels are those of the registration."""
    worker_id = await join(deck.database, SYNC, MAIL, queues=("a", "b"), labels=("gpu",), others=(EMBED,))
    (worker,) = await workers_of(deck)
    assert (worker.id, worker.host, worker.pid, worker.version) == (worker_id, "host", 4711, "0.1.0")
    assert (worker.slots, worker.queues, worker.job_types) == (10, ("a", "b"), ("sync", "mail"))
    assert worker.labels == ("gpu",)
    assert (worker.state, worker.running, worker.finished_runs) == ("idle", 0, 0)
    assert worker.started_at == worker.seen_at
    assert worker.label == "host:4711"


async def test_the_states_of_a_worker(deck: Deck) -> None:
    """Idle and busy by its leases, stalled and draining as it says, stopped when it left, lost when it fell silent."""
    worker = await join(deck.database)
    assert await state_of(deck, worker) == "idle"
    await deck.enqueue()
    (claimed,) = await deck.claim(worker=worker)
    await beaten(deck, worker, claimed.id)
    assert await state_of(deck, worker) == "busy"
    await beaten(deck, worker, claimed.id, stalled=True)
    assert await state_of(deck, worker) == "stalled"
    await beaten(deck, worker, claimed.id, state="draining", stalled=True)
    assert await state_of(deck, worker) == "draining"
    deck.forward(31)
    assert await state_of(deck, worker) == "lost"
    await beaten(deck, worker)
    await deck.recover()
    assert await state_of(deck, worker) == "idle"
    await deck.database.write(leave, Leave(worker))
    assert await state_of(deck, worker) == "stopped"
    deck.forward(31)
    assert await state_of(deck, worker) == "stopped"


async def test_a_beat_keeps_the_worker_alive(deck: Deck) -> None:
    """Each beat moves the moment from which a worker counts as lost, and brings its counters."""
    worker = await join(deck.database)
    for _ in range(3):
        deck.forward(29)
        await beaten(deck, worker)
        assert await state_of(deck, worker) == "idle"
    (found,) = await workers_of(deck)
    assert found.finished_runs == 17
    assert (found.seen_at - found.started_at).total_seconds() >= 87


async def test_live_workers_stand_first(deck: Deck) -> None:
    """Then newest first; lost and stopped ones follow."""
    lost = await join(deck.database, lease=1)
    deck.forward(2)
    stopped = await join(deck.database)
    await deck.database.write(leave, Leave(stopped))
    deck.forward(1)
    older = await join(deck.database)
    deck.forward(1)
    newer = await join(deck.database)
    assert [worker.id for worker in await workers_of(deck)] == [newer, older, stopped, lost]


async def test_workers_gone_for_a_day_are_forgotten(deck: Deck) -> None:
    """The next registration drops them, but never one that a lease still names."""
    gone, holding = await join(deck.database), await join(deck.database)
    await deck.enqueue()
    (claimed,) = await deck.claim(worker=holding)
    deck.forward(86_400 + 31)
    new = await join(deck.database)
    assert {worker.id for worker in await workers_of(deck)} == {holding, new}
    deck.forward(1)
    await deck.recover()
    newest = await join(deck.database)
    assert {worker.id for worker in await workers_of(deck)} == {new, newest}
    assert claimed.id
    assert gone != holding


async def test_job_types_are_kept_up_to_date(deck: Deck) -> None:
    """A registration inserts new types, overwrites changed ones and leaves the others; the newest worker wins."""
    await join(deck.database, SYNC, MAIL)
    changed = replace(SYNC, title="Sync 2", version="2.0", schema={"type": "object", "required": ["x"]})
    await join(deck.database, changed)
    found = await deck.database.read(list_types, await deck.now())
    assert found == [replace(MAIL, live_workers=1), replace(changed, live_workers=2)]
    assert await deck.database.read(find_type, "sync") == changed
    assert await deck.database.read(find_type, "unknown") is None


async def test_types_of_silent_workers_stay_known(deck: Deck) -> None:
    """A type whose workers are all gone is known with no live worker."""
    worker = await join(deck.database)
    await deck.database.write(leave, Leave(worker))
    (found,) = await deck.database.read(list_types, await deck.now())
    assert (found.name, found.live_workers) == ("sync", 0)


@dataclass(frozen=True)
class Waiting:
    """Which worker there is, and the reason it leaves a due `sync` run of the queue `slow` waiting."""

    reason: str | None
    types: tuple[JobType, ...] = (SYNC,)
    queues: tuple[str, ...] = ()
    lease: float = 30.0
    state: str = "live"


NOBODY = "no worker is running; start one with: jobdeck runner"
WAITING = {
    "other type": Waiting(
        "no live worker takes the job type sync; where it is installed, start one with: "
        "jobdeck runner --type sync",
        types=(MAIL,),
    ),
    "other queue": Waiting(
        "no live worker takes the queue slow; start one with: jobdeck runner --queue slow", queues=("fast",)
    ),
    "lost": Waiting(NOBODY, lease=0.0),
    "draining": Waiting(NOBODY, state="draining"),
    "any queue": Waiting(None),
    "named queue": Waiting(None, queues=("fast", "slow")),
}


async def test_a_due_run_says_why_nobody_takes_it(deck: Deck) -> None:
    """`held` with the reason: no worker, none of the type, none of the queue; not where one can take it."""
    run_id = await deck.enqueue(queue="slow")
    assert (await deck.show(run_id)).held_reason == NOBODY
    for name, case in WAITING.items():
        worker = await join(deck.database, *case.types, queues=case.queues, lease=case.lease)
        if case.state != "live":
            await beaten(deck, worker, state=case.state)
        run = await deck.show(run_id)
        assert (run.held_reason, run.label) == (case.reason, "held" if case.reason else "pending"), name
        await deck.database.write(leave, Leave(worker))
        assert (await deck.show(run_id)).held_reason == NOBODY, name


async def test_the_right_queue_needs_the_right_type(deck: Deck) -> None:
    """One worker with the type on another queue and one with another type on this queue do not add up."""
    run_id = await deck.enqueue(queue="slow")
    await join(deck.database, SYNC, queues=("fast",))
    await join(deck.database, MAIL, queues=("slow",))
    assert (await deck.show(run_id)).label == "held"


async def test_what_a_worker_leaves_to_others_is_known(deck: Deck) -> None:
    """A type that asks for labels is known, with them, as soon as any worker has it installed; none takes it."""
    await join(deck.database, SYNC, others=(EMBED,))
    found = {kind.name: kind for kind in await deck.database.read(list_types, await deck.now())}
    assert found["embed"] == replace(EMBED, live_workers=0)
    assert found["sync"] == replace(SYNC, live_workers=1)


async def test_a_run_that_needs_labels_says_which(deck: Deck) -> None:
    """While no live worker has all of them: the labels and the command that brings them."""
    run_id = await deck.enqueue(job_type="embed", queue="slow")
    command = "start one with: jobdeck runner --label gpu --label ssd"

    async def reason() -> str | None:
        return (await deck.show(run_id)).held_reason

    await deck.database.write(leave, Leave(await join(deck.database, SYNC, others=(EMBED,))))
    assert await reason() == f"no worker is running; {command}"
    await join(deck.database, SYNC, labels=("gpu",), others=(EMBED,))
    await join(deck.database, MAIL, labels=("ssd",), others=(EMBED,))
    missing = f"no live worker with labels gpu and ssd takes the job type embed; {command}"
    assert await reason() == missing
    await join(deck.database, MAIL, labels=("gpu", "ssd"), others=(EMBED,))
    assert await reason() == (
        "no live worker takes the job type embed; where it is installed, start one with: "
        "jobdeck runner --label gpu --label ssd --type embed"
    )
    await join(deck.database, EMBED, labels=("gpu", "ssd"), queues=("fast",))
    assert await reason() == f"no live worker takes the queue slow; {command} --queue slow"
    await join(deck.database, EMBED, labels=("gpu", "ssd"))
    assert await reason() is None


async def test_what_is_not_due_is_not_held(deck: Deck) -> None:
    """Runs that wait for their time, run or have ended have no reason, also without any worker."""
    claimed = await deck.started()
    later = await deck.enqueue(delay=timedelta(hours=1))
    ended = await deck.started(priority=1)
    await deck.finish(ended)
    found = {run.id: (run.label, run.held_reason) for run in await deck.page()}
    assert found == {
        claimed.id: ("running", None), later: ("scheduled", None), ended.id: ("completed", None),
    }  # fmt: skip


async def test_when_a_draining_worker_is_done(deck: Deck) -> None:
    """Due and running runs of its types and queues hold it; those due later, of others or ended do not."""

    async def done(types: tuple[str, ...] = ("sync", "mail"), queues: tuple[str, ...] = ()) -> bool:
        return await deck.database.read(nothing_left, await deck.now(), types, queues)

    assert await done()
    await deck.enqueue(delay=timedelta(minutes=1))
    await deck.enqueue(job_type="stranger")
    assert await done()
    run_id = await deck.enqueue(queue="slow")
    assert [await done(), await done(queues=("fast",)), await done(("mail",)), await done(())] == [
        False, True, True, True,
    ]  # fmt: skip
    (claimed,) = await deck.claim()
    assert claimed.id == run_id
    assert [await done(), await done(queues=("slow",)), await done(queues=("fast",))] == [False, False, True]
    await deck.finish(claimed, AttemptOutcome.SNOOZED, retry_in_us=60_000_000)
    assert await done()
    deck.forward(61)
    assert not await done()
