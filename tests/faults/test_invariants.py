"""The invariants can fail: each is shown a history that was doctored, and names what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from jobdeck.ids import new_id
from tests.faults import invariants
from tests.faults.history import History
from tests.faults.invariants import Breach, breaches, effects_per_second, prompt
from tests.faults.leaks import Holdings, nothing_leaked, wal_bounded
from tests.faults.ledger import Entry, Kind
from tests.faults.recovery import longest_recovery

RUN = new_id()
NOW = 1_700_000_000_000_000


def run_row(**changes: Any) -> dict[str, Any]:
    """A run that crashed once and then completed."""
    row: dict[str, Any] = {
        "id": RUN, "status": "completed", "due_at": NOW - 9, "fence": 2, "attempt": 2, "params": '{"key":"a"}',
    }  # fmt: skip
    return row | changes


def attempt_row(fence: int, outcome: str, **changes: Any) -> dict[str, Any]:
    at = NOW + fence * 10_000_000
    row = {"run_id": RUN, "fence": fence, "attempt": fence, "outcome": outcome, "worker": "host:1"}
    return row | {"started_at": at, "finished_at": at + 5_000_000} | changes


def event_row(number: int, kind: str, status: str = "") -> dict[str, Any]:
    return {"run_id": RUN, "id": number, "kind": kind, "data": f'{{"status":"{status}"}}'}


def lease_row(**changes: Any) -> dict[str, Any]:
    return {"run_id": RUN, "fence": 2, "lease_until": NOW + 9_000_000} | changes


def effect(fence: int, *, pid: int = 1, start: float = 0.0, end: float = 1.0) -> Entry:
    return Entry(Kind.EFFECT, run=RUN.hex, key="a", attempt=fence, fence=fence, pid=pid, start=start, end=end)


ATTEMPTS = (attempt_row(1, "crashed"), attempt_row(2, "completed"))
EVENTS = (
    event_row(1, "enqueued"),
    event_row(2, "attempt_ended", "pending"),
    event_row(3, "attempt_ended", "completed"),
)
GOOD = History(NOW, [run_row()], [], ATTEMPTS, EVENTS)
LEDGER = (
    Entry(Kind.UNKNOWN, at=0.0, key="a"),
    Entry(Kind.ENQUEUED, at=0.1, key="a", run=RUN.hex),
    Entry(Kind.FAULT, at=5.0, wall=(NOW + 12_000_000) / 1e6, fault="kill", pid=1),
    effect(1, start=1.0, end=2.0),
    effect(2, pid=2, start=20.0, end=21.0),
)


def test_a_good_history_has_no_breach() -> None:
    """A crash, a second attempt and its result are all in order."""
    assert breaches(LEDGER, GOOD) == []


def _with(**rows: Sequence[Mapping[str, Any]]) -> History:
    return replace(GOOD, **rows)  # type: ignore[arg-type]


def _at_work(**lease: Any) -> History:
    """The run in the middle of its second attempt."""
    running = run_row(status="running")
    return _with(runs=[running], leases=[lease_row(**lease)], attempts=ATTEMPTS[:1], events=EVENTS[:2])


OVERLAPPING = (*LEDGER[:2], effect(1, start=1.0, end=9.0), effect(2, pid=2, start=8.0, end=10.0))
DOCTORED: dict[str, tuple[str, Sequence[Entry], History]] = {
    "a run that is not there": ("I1", LEDGER, _with(runs=[], attempts=[], events=[])),
    "a run left over": (
        "I1",
        LEDGER,
        _with(runs=[run_row(status="pending", attempt=1)], attempts=ATTEMPTS[:1], events=EVENTS[:2]),
    ),
    "a run stored twice": (
        "I1",
        LEDGER,
        _with(runs=[run_row(), run_row(id=UUID(int=7), status="pending", attempt=0)]),
    ),
    "a result without an effect": ("I2", LEDGER[:-1], GOOD),
    "an effect of another attempt": ("I2", (*LEDGER[:-1], replace(LEDGER[-1], fence=3)), GOOD),
    "a result without an attempt": (
        "I2",
        LEDGER,
        _with(attempts=[ATTEMPTS[0], attempt_row(2, "error")]),
    ),
    "two results": ("I3", LEDGER, _with(attempts=[attempt_row(1, "completed"), ATTEMPTS[1]])),
    "a result of an older fence": (
        "I3",
        LEDGER,
        _with(attempts=[attempt_row(1, "completed"), attempt_row(2, "crashed")]),
    ),
    "an attempt above the fence": ("I3", LEDGER, _with(runs=[run_row(fence=1)])),
    "two at work at once": ("I3", OVERLAPPING, GOOD),
    "two at work, a fault in another": (
        "I3",
        (*OVERLAPPING, Entry(Kind.FAULT, at=5.0, pid=2, fault="kill")),
        GOOD,
    ),
    "two at work, a fault too late": (
        "I3",
        (*OVERLAPPING, Entry(Kind.FAULT, at=8.5, pid=1, fault="kill")),
        GOOD,
    ),
    "two effects of one attempt": ("I3", (*LEDGER, effect(2, start=30.0, end=31.0)), GOOD),
    "an attempt left out": (
        "I4",
        LEDGER,
        _with(attempts=[ATTEMPTS[1]]),
    ),
    "a fence that stood still": (
        "I4",
        LEDGER,
        _with(attempts=[ATTEMPTS[0], attempt_row(1, "completed", attempt=2)]),
    ),
    "out of an end": (
        "I4",
        LEDGER,
        _with(events=[*EVENTS[:1], event_row(2, "attempt_ended", "completed"), EVENTS[2]]),
    ),
    "an end that no event tells of": ("I4", LEDGER, _with(events=EVENTS[:2])),
    "a retry of a completed run": ("I4", LEDGER, _with(events=[*EVENTS, event_row(4, "retried")])),
    "a lease run out": ("I5", LEDGER, _at_work(lease_until=NOW - 5_000_000)),
    "running without a lease": ("I5", LEDGER, replace(_at_work(), leases=[])),
    "a lease of an ended run": ("I5", LEDGER, _with(leases=[lease_row()])),
}


@pytest.mark.parametrize("name", DOCTORED)
def test_a_doctored_history_is_caught(name: str) -> None:
    """Each way to be wrong is found by the invariant it breaks."""
    invariant, ledger, history = DOCTORED[name]
    assert invariant in {breach.invariant for breach in breaches(ledger, history)}


@pytest.mark.parametrize("pid", [1, None])
def test_a_fault_excuses_the_overlap_of_the_worker_it_hit(pid: int | None) -> None:
    """A worker that was hit, alone or with all others, may still have been at work when the next one began."""
    ledger = (*OVERLAPPING, Entry(Kind.FAULT, at=5.0, pid=pid, fault="freeze"))
    assert [breach for breach in breaches(ledger, GOOD) if breach.invariant == "I3"] == []


def test_a_run_at_work_and_a_retried_one_are_in_order() -> None:
    """What goes on is no breach of I4 and I5, nor is an end that was left by a retry."""
    found = breaches(LEDGER, _at_work())
    assert {breach.invariant for breach in found} == {"I1"}
    dead = event_row(2, "attempt_ended", "dead")
    retried = _with(
        events=[EVENTS[0], dead, event_row(3, "retried"), event_row(4, *("attempt_ended", "completed"))]
    )
    assert breaches(LEDGER, retried) == []


@pytest.mark.parametrize(("begun", "late"), [(1.4, False), (1.6, True), (None, True)])
def test_what_begins_late_when_all_is_well_is_caught(begun: float | None, late: bool) -> None:
    """I6: half a second of poll and one of slack, counted from the asking."""
    effects = [] if begun is None else [effect(2, start=begun, end=begun + 1)]
    found = list(prompt([*LEDGER[:2], *effects], GOOD, since=0.0, poll=0.5))
    assert [breach.invariant for breach in found] == (["I6"] if late else [])
    assert list(prompt([*LEDGER[:2], *effects], GOOD, since=0.05, poll=0.5)) == []


def test_throughput_is_counted_by_the_ends_of_effects() -> None:
    """Two of three effects lie in the interval of 4 s."""
    done = [effect(fence, end=end) for fence, end in ((1, 0.9), (2, 1.0), (3, 4.9))]
    assert effects_per_second(done, 1.0, 5.0) == 0.5
    assert effects_per_second(done, 1.0, 1.0) == 0.0


def test_what_a_process_leaks_is_caught(tmp_path: Any) -> None:
    """I11: each holding has its margin; a child may not be left at all."""
    before = Holdings(threads=5, descriptors=20, children=0, rss_bytes=50_000_000)
    assert list(nothing_leaked(before, replace(before, threads=7, descriptors=24))) == []
    after = Holdings(threads=8, descriptors=25, children=1, rss_bytes=200_000_000)
    found = [str(breach) for breach in nothing_leaked(before, after)]
    assert len(found) == 4
    assert "threads grew from 5 to 8" in found[0]
    (tmp_path / "some.db-wal").write_bytes(b"x" * 11)
    assert [breach.invariant for breach in wal_bounded(tmp_path / "some.db", most=10)] == ["I11"]
    assert list(wal_bounded(tmp_path / "some.db", most=11)) == []


def test_recovery_counts_from_the_fault_to_the_end_of_the_crashed_attempt() -> None:
    """The fault is at 12 s, the run is taken back at 15 s; a crash that no fault explains counts for nothing."""
    assert longest_recovery(LEDGER, GOOD) == pytest.approx(3.0)
    assert longest_recovery(LEDGER[:2], GOOD) is None


def test_every_invariant_is_asked() -> None:
    """None of the doctored histories tests one that the cases leave out."""
    names = {invariant for invariant, _, _ in DOCTORED.values()}
    assert names == {"I1", "I2", "I3", "I4", "I5"}
    assert len(invariants.ALWAYS) == len(names)
    assert str(Breach("I1", "r", "is lost")) == "I1 r: is lost"
