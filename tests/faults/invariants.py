"""What must hold after every case, whatever was broken: pure functions of the ledger and of the dumped tables.

Each gives one `Breach` per thing that is wrong. The names I1 to I6 are those of the tables in docs/faults.md; what
processes may leave behind (I11) is in `leaks`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

from jobdeck.states import TERMINAL, TRANSITIONS, AttemptOutcome, Status
from jobdeck.store.house.restore import EPOCH_STEP
from tests.faults.history import History, Row, key_of
from tests.faults.ledger import Entry, Kind, of_kind

# Seconds. Workers look for expired leases every third of a lease, at most; the lease of the cases is 2 s and more.
REAP_INTERVAL = 1.0


@dataclass(frozen=True, slots=True)
class Breach:
    """One thing that must not be."""

    invariant: str
    run: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant} {self.run}: {self.text}"


Invariant = Callable[[Sequence[Entry], History], Iterator[Breach]]


def nothing_lost(ledger: Sequence[Entry], history: History) -> Iterator[Breach]:
    """I1: every acknowledged run is stored and has ended, or is due in the future; none is stored twice."""
    stored = history.by_id
    for entry in of_kind(ledger, Kind.ENQUEUED):
        run = stored.get(str(entry.run))
        if run is None:
            yield Breach("I1", str(entry.run), f"{entry.key} was acknowledged and is not there")
        elif not _is_settled(run, history.now):
            yield Breach("I1", str(entry.run), f"{entry.key} is still {run['status']}")
    for key, count in Counter(key_of(run) for run in history.runs).items():
        if key is not None and count > 1:
            yield Breach("I1", key, f"was asked for once and is stored {count} times")


def effects_behind_results(ledger: Sequence[Entry], history: History) -> Iterator[Breach]:
    """I2: behind every completed run there is an effect of the very attempt that is recorded."""
    seen = {(entry.run, _claims(entry.fence), entry.attempt) for entry in of_kind(ledger, Kind.EFFECT)}
    completed = {
        (row["run_id"].hex, _claims(row["fence"]), row["attempt"])
        for row in history.attempts
        if row["outcome"] == AttemptOutcome.COMPLETED
    }
    for run_id, run in history.by_id.items():
        if run["status"] != Status.COMPLETED or key_of(run) is None:
            continue
        this = (run_id, _claims(run["fence"]), run["attempt"])
        if this not in seen:
            yield Breach("I2", run_id, f"attempt {run['attempt']} is completed without its effect")
        if this not in completed:
            yield Breach("I2", run_id, f"attempt {run['attempt']} is completed without its history")


def _claims(fence: int | None) -> int:
    """A fence without the steps by which restores have raised that of the run alone."""
    return (fence or 0) % EPOCH_STEP


def one_result(ledger: Sequence[Entry], history: History) -> Iterator[Breach]:
    """I3: one result per run, from the highest fence; two effects overlap only after a fault in the older one."""
    retried = {row["run_id"].hex for row in history.events if row["kind"] == "retried"}
    runs = history.by_id
    for run_id, attempts in history.attempts_of().items():
        results = [row["fence"] for row in attempts if row["outcome"] == AttemptOutcome.COMPLETED]
        if len(results) > 1 and run_id not in retried:
            yield Breach("I3", run_id, f"has {len(results)} results, of fences {results}")
        if results and max(results) != max(row["fence"] for row in attempts):
            yield Breach("I3", run_id, "has a result that is not from its highest fence")
        if run_id in runs and attempts[-1]["fence"] > runs[run_id]["fence"]:
            yield Breach("I3", run_id, "has an attempt above its own fence")
    yield from _overlaps(ledger)


def _overlaps(ledger: Sequence[Entry]) -> Iterator[Breach]:
    faults = of_kind(ledger, Kind.FAULT)
    by_run: dict[str, list[Entry]] = {}
    for entry in of_kind(ledger, Kind.EFFECT):
        by_run.setdefault(str(entry.run), []).append(entry)
    for run_id, effects in by_run.items():
        for one, other in combinations(sorted(effects, key=lambda entry: entry.fence or 0), 2):
            if one.fence == other.fence:
                yield Breach("I3", run_id, f"two effects of fence {one.fence}")
            elif _overlap(one, other) and not any(_excuses(fault, one, other) for fault in faults):
                yield Breach(
                    "I3",
                    run_id,
                    f"fences {one.fence} and {other.fence} worked at the same time for no reason",
                )


def _overlap(one: Entry, other: Entry) -> bool:
    return (one.start or 0) < (other.end or 0) and (other.start or 0) < (one.end or 0)


def _excuses(fault: Entry, older: Entry, newer: Entry) -> bool:
    """Whether the worker of the older attempt was hit before the newer one began."""
    return fault.at <= (newer.start or 0) and fault.pid in (None, older.pid)


def legal_path(ledger: Sequence[Entry], history: History) -> Iterator[Breach]:
    """I4: attempts count 1, 2, 3 with growing fences; statuses follow the table; nothing leaves an end but a retry."""
    events = history.events_of()
    attempts = history.attempts_of()
    for run_id, run in history.by_id.items():
        yield from _counted(run_id, run, attempts.get(run_id, []))
        yield from _walked(run_id, run, events.get(run_id, []))


def _counted(run_id: str, run: Row, attempts: Sequence[Row]) -> Iterator[Breach]:
    counted = [row["attempt"] for row in attempts]
    held = 1 if run["status"] == Status.RUNNING else 0
    if counted != list(range(1, run["attempt"] + 1 - held)):
        yield Breach("I4", run_id, f"is at attempt {run['attempt']} with attempts {counted} ended")
    fences = [row["fence"] for row in attempts]
    if any(one >= other for one, other in pairwise(fences)):
        yield Breach("I4", run_id, f"fences do not grow: {fences}")


def _walked(run_id: str, run: Row, events: Sequence[Row]) -> Iterator[Breach]:
    status: str | None = None
    for event in events:
        after = _status_after(event, run)
        if after is None:
            continue
        if status is None:
            legal = after in (Status.PENDING, Status.AWAITING_APPROVAL)
        elif event["kind"] == "attempt_ended":
            # The claim between the two leaves no event of its own.
            legal = status == Status.PENDING and after in TRANSITIONS[Status.RUNNING]
        else:
            legal = after in TRANSITIONS[Status(status)]
        if not legal:
            yield Breach("I4", run_id, f"went from {status} to {after} by {event['kind']}")
        if status in TERMINAL and event["kind"] != "retried":
            yield Breach("I4", run_id, f"left its end {status} by {event['kind']}")
        status = after
    if run["status"] != status and not (run["status"] == Status.RUNNING and status == Status.PENDING):
        yield Breach("I4", run_id, f"is {run['status']}, but its events lead to {status}")


def _status_after(event: Row, run: Row) -> str | None:
    fixed = {
        "enqueued": Status.AWAITING_APPROVAL if run.get("requires_approval") else Status.PENDING,
        "approved": Status.PENDING,
        "rejected": Status.CANCELLED,
        "cancelled": Status.CANCELLED,
        "expired": Status.EXPIRED,
        "retried": Status.PENDING,
    }
    if event["kind"] == "attempt_ended":
        facts: dict[str, Any] = json.loads(event["data"])
        return str(facts["status"])
    return fixed.get(event["kind"])


def nobody_stranded(ledger: Sequence[Entry], history: History) -> Iterator[Breach]:
    """I5: no run is left running whose lease ran out longer than two looks ago, or that has no lease at all."""
    leases = {row["run_id"].hex: row for row in history.leases}
    for run_id, run in history.by_id.items():
        lease = leases.get(run_id)
        if run["status"] != Status.RUNNING:
            if lease is not None:
                yield Breach("I5", run_id, f"is {run['status']} and has a lease")
        elif lease is None:
            yield Breach("I5", run_id, "is running without a lease")
        elif lease["lease_until"] + 2 * REAP_INTERVAL * 1_000_000 < history.now:
            late = (history.now - lease["lease_until"]) / 1_000_000
            yield Breach("I5", run_id, f"is running on a lease that ran out {late:.1f} s ago")


def prompt(
    ledger: Sequence[Entry], history: History, *, since: float, poll: float, slack: float = 1.0
) -> Iterator[Breach]:
    """I6: what is enqueued after `since` (monotonic), when all is well again, begins within `poll` + `slack`."""
    effects = of_kind(ledger, Kind.EFFECT)
    first: dict[str, float] = {}
    for entry in effects:
        first[str(entry.run)] = min(first.get(str(entry.run), entry.start or 0), entry.start or 0)
    asked = {entry.key: entry.at for entry in of_kind(ledger, Kind.UNKNOWN)}
    for entry in of_kind(ledger, Kind.ENQUEUED):
        at = asked.get(entry.key, entry.at)
        if at < since:
            continue
        begun = first.get(str(entry.run))
        if begun is None:
            yield Breach("I6", str(entry.run), "never began although all was well")
        elif begun - at > poll + slack:
            yield Breach("I6", str(entry.run), f"began {begun - at:.2f} s after it was asked for")


ALWAYS: tuple[Invariant, ...] = (
    nothing_lost,
    effects_behind_results,
    one_result,
    legal_path,
    nobody_stranded,
)
"""Those that need nothing but the ledger and the tables."""


def breaches(ledger: Sequence[Entry], history: History) -> list[Breach]:
    """Everything that is wrong by I1 to I5."""
    return [breach for invariant in ALWAYS for breach in invariant(ledger, history)]


def effects_per_second(ledger: Sequence[Entry], begin: float, end: float) -> float:
    """How many effects ended in an interval of the monotonic clock, per second: for the throughput of I6."""
    done = sum(1 for entry in of_kind(ledger, Kind.EFFECT) if begin <= (entry.end or 0) < end)
    return done / (end - begin) if end > begin else 0.0


def _is_settled(run: Row, now: int) -> bool:
    return run["status"] in TERMINAL or (run["status"] == Status.PENDING and run["due_at"] > now)
