"""Labels and actions: the word shown for a run, and what may be done to it."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from jobdeck.states import ACTIVE, RETRYABLE, TERMINAL, Label, Status, allowed_actions, label_of

FLAGS = [dict(zip(("due_in_future", "cancel_requested", "stalled", "parked", "held"), values, strict=True))
         for values in product((False, True), repeat=5)]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "facts", "label"),
    [
        (Status.PENDING, {}, "pending"),
        (Status.PENDING, {"due_in_future": True}, "scheduled"),
        (Status.PENDING, {"due_in_future": True, "attempt": 1}, "retrying"),
        (Status.PENDING, {"attempt": 1}, "pending"),
        (Status.PENDING, {"held": True}, "held"),
        (Status.PENDING, {"held": True, "due_in_future": True}, "scheduled"),
        (Status.RUNNING, {}, "running"),
        (Status.RUNNING, {"stalled": True}, "stalled"),
        (Status.RUNNING, {"parked": True}, "parked"),
        (Status.RUNNING, {"parked": True, "cancel_requested": True}, "cancelling"),
        (Status.RUNNING, {"cancel_requested": True}, "cancelling"),
        (Status.RUNNING, {"cancel_requested": True, "stalled": True}, "cancelling"),
        (Status.COMPLETED, {"cancel_requested": True}, "completed"),
    ],
)
def test_the_word_that_is_shown(status: Status, facts: dict[str, Any], label: str) -> None:
    """The status, or the label that says more."""
    assert label_of(status, **facts) == label


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.PENDING, Status.RUNNING}))
def test_other_statuses_have_no_labels(status: Status) -> None:
    """Whatever else is true of them, they are shown as they are stored."""
    assert {label_of(status, attempt=3, **flags) for flags in FLAGS} == {status}


def test_labels_never_claim_an_end() -> None:
    """No combination of facts makes an active run look ended; every label occurs."""
    seen = {
        label_of(status, attempt=attempt, **flags)
        for status in ACTIVE
        for attempt in (0, 2)
        for flags in FLAGS
    }
    assert not seen & set(TERMINAL)
    assert seen == set(ACTIVE) | set(Label)


@pytest.mark.parametrize("status", sorted(Status))
def test_what_may_be_done(status: Status) -> None:
    """Cancel what is active and not asked yet, retry what ended without completing, approve what waits for it."""
    actions = allowed_actions(status)
    assert ("cancel" in actions) == (status in ACTIVE)
    assert ("retry" in actions) == (status in RETRYABLE)
    assert ("approve" in actions) == ("reject" in actions) == (status is Status.AWAITING_APPROVAL)
    assert "cancel" not in allowed_actions(status, cancel_requested=True)
