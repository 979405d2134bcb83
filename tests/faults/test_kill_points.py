"""Processes that end at each of the places where an end could lose something."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from itertools import groupby

from jobdeck.states import AttemptOutcome
from tests.faults.case import Case
from tests.faults.history import History, key_of
from tests.faults.invariants import Breach
from tests.faults.killpoints import EXIT_CODE, POINTS, KillPoint
from tests.faults.ledger import Entry, Kind, of_kind

# Kills at each point, and runs for its workers.
SHORT, WHOLE = (2, 20), (20, 100)
# Seconds. A thread may write its effect while another one writes into the ledger that the process ends here.
IN_WRITING = 1.0
# Points whose processes are at work at the same time, so that two processor cores keep every lease of 3 s alive.
AT_ONCE = 3
SETTINGS = {"runner": {"lease": "3s", "concurrency": 1}}

ENQUEUING = tuple(point for point in POINTS if point.startswith("enqueue."))
WORKING = tuple(point for point in POINTS if point not in ENQUEUING)
# What a worker that ended at the first passing of a point can have done, where that is certain.
NOTHING_DONE = frozenset({"claim.before_commit", "claim.after_commit", "handler.start"})
ONE_DONE = frozenset({"handler.end", "finish.before_commit", "finish.after_commit"})


async def test_r01_every_kill_point(case: Case) -> None:
    """A worker of one slot, or an enqueuer, ends at each point again and again; a clean worker does what is left.

    Every run completes; an effect is repeated only where its worker ended between the effect and its record.
    """
    kills, runs = case.size.of(SHORT, WHOLE)
    gate = asyncio.Semaphore(AT_ONCE)
    killed: dict[int, KillPoint] = {}
    async with case.client() as client:
        for point in WORKING:
            # A beat comes every second, so there the runs have to last.
            seconds = 0.3 if point == "lease.before_renew" else 0.01
            await case.enqueue(client, runs, seconds=seconds, options={"queue": _queue(point)})

    async def go_through(point: str) -> None:
        for number in range(kills):
            nth = 1 if point == "lease.before_renew" else 1 + number % 3
            async with gate:
                await _end_at(case, KillPoint(point, nth), number, killed)

    await asyncio.gather(*(go_through(point) for point in POINTS))
    case.workers.start(settings={"runner": {"concurrency": 10}})
    await case.settled()
    history = case.history()
    entries = case.ledger.read()
    more = [*_repeats(entries, history), *_first_passings(entries, killed), *_enqueued(entries, history)]
    case.judge(more=more, note=f"{kills} kills at each of {len(POINTS)} points")
    assert {row["status"] for row in history.runs} == {"completed"}
    assert len(killed) == kills * len(POINTS)


async def _end_at(case: Case, kill: KillPoint, number: int, killed: dict[int, KillPoint]) -> None:
    """Start a process with this kill point in it and see it end there."""
    queue = _queue(kill.point)
    if kill.point in ENQUEUING:
        process = case.workers.enqueuer(f"{kill.point}-{number}", 5, queue, kill=kill)
    else:
        process = case.workers.start("--queue", queue, settings=SETTINGS, kill=kill)
    assert await asyncio.to_thread(process.wait) == EXIT_CODE, process.said()
    killed[process.pid] = kill


def _queue(point: str) -> str:
    return point.replace(".", "-")


def _repeats(entries: Iterable[Entry], history: History) -> Iterator[Breach]:
    """Every effect but the last of a run is one of an attempt that crashed, whose worker was hit afterwards."""
    entries = list(entries)
    crashed = {
        (row["run_id"].hex, row["fence"])
        for row in history.attempts
        if row["outcome"] == AttemptOutcome.CRASHED
    }
    hits = {entry.pid: entry.at for entry in of_kind(entries, Kind.FAULT)}
    effects = sorted(of_kind(entries, Kind.EFFECT), key=lambda entry: (str(entry.run), entry.fence or 0))
    for run, group in groupby(effects, key=lambda entry: str(entry.run)):
        *repeated, _ = group
        for entry in repeated:
            hit = hits.get(entry.pid, 0.0)
            if (run, entry.fence) not in crashed or hit + IN_WRITING < (entry.end or 0.0):
                yield Breach("I3", run, f"fence {entry.fence} was done and repeated for no reason")


def _first_passings(entries: Iterable[Entry], killed: dict[int, KillPoint]) -> Iterator[Breach]:
    """A worker hit at its first passing of a point has done what it must have done by then and nothing else."""
    entries = list(entries)
    for pid, kill in killed.items():
        done = sum(1 for entry in of_kind(entries, Kind.EFFECT) if entry.pid == pid)
        expected = 0 if kill.point in NOTHING_DONE else 1 if kill.point in ONE_DONE else done
        if kill.nth == 1 and done != expected:
            yield Breach("I2", "-", f"a worker hit at {kill} had {done} effects")


def _enqueued(entries: Iterable[Entry], history: History) -> Iterator[Breach]:
    """What was not acknowledged is stored exactly where the process ended after the commit."""
    entries = list(entries)
    stored = {key_of(run) for run in history.runs}
    acknowledged = {entry.key for entry in of_kind(entries, Kind.ENQUEUED)}
    for entry in of_kind(entries, Kind.UNKNOWN):
        key = str(entry.key)
        if entry.key not in acknowledged and (entry.key in stored) is not key.startswith(
            "enqueue.after_commit"
        ):
            yield Breach("I1", key, "was stored on the wrong side of the commit")
