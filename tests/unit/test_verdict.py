"""The verdict on an attempt, row by row: what becomes of the run, and what is counted."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobdeck.limits import CRASH_BUDGET
from jobdeck.states import TRANSITIONS
from jobdeck.states import AttemptOutcome as A
from jobdeck.states import FailureKind as K
from jobdeck.states import Status as S
from jobdeck.verdict import Ending, Facts, Verdict, decide

WAIT = 5_000_000

ROWS: list[tuple[str, Ending, Facts, Verdict]] = [
    ("completed", Ending(A.COMPLETED), Facts(1, 1, 3, False), Verdict(S.COMPLETED, None, 1, 1)),
    ("completed though asked to stop", Ending(A.COMPLETED), Facts(0, 0, 3, True), Verdict(S.COMPLETED, None, 0, 0)),
    ("first failure of three", Ending(A.ERROR, retry_in_us=WAIT), Facts(0, 0, 3, False),
     Verdict(S.PENDING, K.ERROR, 1, 0, WAIT)),
    ("second failure of three", Ending(A.ERROR, retry_in_us=WAIT), Facts(1, 2, 3, False),
     Verdict(S.PENDING, K.ERROR, 2, 2, WAIT)),
    ("third failure of three", Ending(A.ERROR, retry_in_us=WAIT), Facts(2, 0, 3, False),
     Verdict(S.DEAD, K.ERROR, 3, 0)),
    ("more failures than allowed", Ending(A.ERROR), Facts(7, 0, 3, False), Verdict(S.DEAD, K.ERROR, 8, 0)),
    ("one attempt allowed", Ending(A.ERROR), Facts(0, 0, 1, False), Verdict(S.FAILED, K.ERROR, 1, 0)),
    ("discarded", Ending(A.ERROR, final=True), Facts(0, 0, 3, False), Verdict(S.FAILED, K.ERROR, 1, 0)),
    ("discarded at the last attempt", Ending(A.ERROR, final=True), Facts(2, 0, 3, False),
     Verdict(S.FAILED, K.ERROR, 3, 0)),
    ("invalid params", Ending(A.ERROR, final=True, failure_kind=K.INVALID_PARAMS), Facts(0, 0, 3, False),
     Verdict(S.FAILED, K.INVALID_PARAMS, 1, 0)),
    ("timed out", Ending(A.TIMED_OUT, retry_in_us=WAIT), Facts(0, 0, 2, False),
     Verdict(S.PENDING, K.TIMED_OUT, 1, 0, WAIT)),
    ("timed out at last", Ending(A.TIMED_OUT), Facts(1, 0, 2, False), Verdict(S.DEAD, K.TIMED_OUT, 2, 0)),
    ("snoozed", Ending(A.SNOOZED, retry_in_us=WAIT), Facts(2, 1, 3, False), Verdict(S.PENDING, None, 2, 1, WAIT)),
    ("interrupted", Ending(A.INTERRUPTED), Facts(2, 1, 3, False), Verdict(S.PENDING, None, 2, 1)),
    ("first crash", Ending(A.CRASHED), Facts(2, 0, 3, False), Verdict(S.PENDING, None, 2, 1)),
    ("crash with one attempt allowed", Ending(A.CRASHED), Facts(0, 1, 1, False), Verdict(S.PENDING, None, 0, 2)),
    ("last crash", Ending(A.CRASHED), Facts(0, CRASH_BUDGET - 1, 3, False),
     Verdict(S.DEAD, K.CRASHED, 0, CRASH_BUDGET)),
    ("cancelled", Ending(A.CANCELLED), Facts(1, 1, 3, True), Verdict(S.CANCELLED, None, 1, 1)),
    ("cancelled without a request", Ending(A.CANCELLED), Facts(0, 0, 3, False), Verdict(S.CANCELLED, None, 0, 0)),
    ("abandoned", Ending(A.ABANDONED), Facts(1, 1, 3, True), Verdict(S.CANCELLED, K.ABANDONED, 1, 1)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("ending", "facts", "wanted"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_row_by_row(ending: Ending, facts: Facts, wanted: Verdict) -> None:
    """The table of the specification."""
    assert decide(ending, facts) == wanted


@pytest.mark.parametrize("outcome", [A.ERROR, A.TIMED_OUT, A.CRASHED, A.INTERRUPTED, A.SNOOZED, A.CANCELLED])
@pytest.mark.parametrize("final", [False, True])
def test_a_request_to_cancel_is_honoured(outcome: A, final: bool) -> None:
    """Whatever ends an attempt that was asked to stop, and is no result, ends the run as cancelled, uncounted."""
    verdict = decide(Ending(outcome, retry_in_us=WAIT, final=final), Facts(1, 2, 3, True))
    assert verdict == Verdict(S.CANCELLED, None, 1, 2)


facts = st.builds(Facts, st.integers(0, 200), st.integers(0, 5), st.integers(1, 100), st.booleans())
endings = st.builds(
    Ending,
    st.sampled_from([outcome for outcome in A if outcome is not A.PARKED]),
    retry_in_us=st.none() | st.integers(0, 10**12),
    final=st.booleans(),
)


@given(endings, facts)
def test_whatever_happens(ending: Ending, before: Facts) -> None:
    """A verdict is a transition of the table; counters never fall, at most one grows, and only by one."""
    verdict = decide(ending, before)
    assert verdict.status in TRANSITIONS[S.RUNNING]
    grown = (verdict.failures - before.failures, verdict.crash_count - before.crash_count)
    assert grown in {(0, 0), (1, 0), (0, 1)}
    assert verdict.wait_us >= 0
    if verdict.status is not S.PENDING:
        assert verdict.wait_us == 0
    if verdict.status in (S.FAILED, S.DEAD):
        assert verdict.failure_kind is not None
    if verdict.status is S.COMPLETED:
        assert ending.outcome is A.COMPLETED
    if before.cancel_requested:
        assert verdict.status in (S.COMPLETED, S.CANCELLED)


def test_attempts_are_bounded() -> None:
    """However errors, timeouts and crashes alternate, a run ends after max_attempts failures or three crashes."""
    for pattern in product((A.ERROR, A.TIMED_OUT, A.CRASHED), repeat=5):
        now = Facts(0, 0, 3, False)
        for outcome in pattern:
            verdict = decide(Ending(outcome), now)
            if verdict.status is not S.PENDING:
                break
            now = Facts(verdict.failures, verdict.crash_count, 3, False)
        else:
            raise AssertionError(f"still pending after {pattern}")
        assert verdict.status is S.DEAD
        assert verdict.failures == 3 or verdict.crash_count == 3
