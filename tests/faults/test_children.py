"""What runs have started as processes, when the run or the worker ends before its time."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from jobdeck.ids import show_id
from tests.faults.case import Case
from tests.faults.invariants import Breach

SETTINGS = {"command": {"enabled": True}}
CANARY = "JOB_CANARY"
# A child, a grandchild in a session of its own, and a daemon whose parent is gone; all ignore the polite signal.
FAMILY = (
    "trap '' TERM; sleep 300 & setsid sh -c 'trap \"\" TERM; sleep 301' & (setsid sleep 302 &) ; "
    "echo ready; while :; do sleep 1; done"
)
MEMBERS = 4
# Seconds until nothing may be left.
GONE = 5.0


@pytest.mark.parametrize("end", ["kill", "timeout", "cancel"])
async def test_r22_families(case: Case, end: str) -> None:
    """SIGKILL of the worker, a timeout, a cancel: five seconds later no process of that run is alive."""
    # As many as a worker of these cases has slots, so that all of them run.
    runs = case.size.of(1, 4)
    canary = f"{case.folder.name}-{os.getpid()}-{time.monotonic_ns()}"
    timeout = case.size.of(1.5, 10.0)
    params = {"shell": FAMILY, "env": {CANARY: canary}, "grace": "1s"} | (
        {"timeout": f"{timeout}s"} if end == "timeout" else {}
    )
    async with case.client(SETTINGS) as client:
        worker = case.workers.start(settings=SETTINGS)
        ids = [await client.runs.enqueue("command", params, max_attempts=1) for _ in range(runs)]
        case.ledger.enqueued({f"{end}-{number}": run_id for number, run_id in enumerate(ids)})
        await case.until(lambda: _whole_families(canary) == runs)
        begun = time.monotonic()
        if end == "kill":
            worker.kill()
        elif end == "cancel":
            for run_id in ids:
                await client.runs.cancel(run_id)
        else:
            # The clock of a program started before its family was complete.
            begun += timeout
        await case.until(lambda: not _carrying(canary) or time.monotonic() > begun + 2 * GONE)
        took = max(0.0, time.monotonic() - begun)
        left = _carrying(canary)
        more = [Breach("I11", "-", f"{len(left)} processes are left")] if left or took > GONE else []
        if end == "kill":
            for run_id in ids:
                await client.runs.cancel(run_id)
            case.workers.start(settings=SETTINGS)
        await case.settled()
    note = f"{end}: {MEMBERS} processes each, gone in {took:.1f} s"
    history = case.judge(more=more, faults=runs, recovery=took, note=note)
    wanted = {"kill": "cancelled", "cancel": "cancelled", "timeout": "failed"}[end]
    assert {row["status"] for row in history.runs} == {wanted}, [
        show_id("run", row["id"]) for row in history.runs
    ]


def _carrying(canary: str) -> Sequence[bytes]:
    """Of each process that has the canary in its environment, the run that it belongs to."""
    found = []
    mark = f"{CANARY}={canary}".encode()
    for proc in Path("/proc").iterdir():
        if proc.name.isdigit():
            try:
                environment = (proc / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if mark in environment:
                found += [entry for entry in environment if entry.startswith(b"JOBDECK_RUN_ID=")]
    return found


def _whole_families(canary: str) -> int:
    return sum(members >= MEMBERS for members in Counter(_carrying(canary)).values())
