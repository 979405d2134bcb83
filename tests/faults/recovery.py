"""How long it took until the work that a fault had hit was taken back."""

from __future__ import annotations

from collections.abc import Sequence

from jobdeck.states import AttemptOutcome
from tests.faults.history import History
from tests.faults.ledger import Entry, Kind, of_kind


def longest_recovery(ledger: Sequence[Entry], history: History) -> float | None:
    """Seconds from a fault in a worker until a run it held could be claimed again, at most; None without one.

    The fault is timed by the host's wall clock and the end of the attempt by the database's, which here is the same.
    """
    hit: dict[int, list[float]] = {}
    for fault in of_kind(ledger, Kind.FAULT):
        if fault.pid is not None:
            hit.setdefault(fault.pid, []).append(fault.wall)
    waits = []
    for attempt in history.attempts:
        if attempt["outcome"] != AttemptOutcome.CRASHED:
            continue
        taken_back = attempt["finished_at"] / 1_000_000
        before = [wall for wall in hit.get(_pid(attempt["worker"]), []) if wall <= taken_back]
        if before:
            waits.append(taken_back - max(before))
    return max(waits, default=None)


def _pid(worker: str) -> int:
    """The process behind a worker's name, `host:pid`."""
    return int(worker.rpartition(":")[2])
