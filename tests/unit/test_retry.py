"""Backoff: the steps grow to a cap, and the waits are spread over the whole step."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from jobdeck.retry import Backoff

backoffs = st.builds(
    Backoff,
    base=st.floats(0.001, 1_000),
    factor=st.floats(1, 10),
    cap=st.floats(0.001, 100_000),
)


def test_the_default_steps() -> None:
    """2 s doubled with each failure, up to an hour."""
    steps = [Backoff().step(failures) for failures in range(1, 14)]
    assert steps == [2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 3_600, 3_600]


@given(backoffs, st.integers(1, 10_000), st.integers())
def test_a_wait_lies_between_zero_and_its_step(backoff: Backoff, failures: int, seed: int) -> None:
    """For any number of failures, also absurd ones, and never beyond the cap."""
    step = backoff.step(failures)
    assert 0 < step <= backoff.cap
    assert 0 <= backoff.delay(failures, random.Random(seed)) <= step


@given(backoffs)
def test_steps_never_shrink(backoff: Backoff) -> None:
    """A later failure waits at least as long at the most."""
    steps = [backoff.step(failures) for failures in range(1, 100)]
    assert all(one <= other for one, other in pairwise(steps))


def test_waits_are_spread_over_the_whole_step() -> None:
    """A thousand runs that fail together do not come back together: each tenth of the step gets its share."""
    draw = random.Random(7)
    waits = [Backoff().delay(5, draw) for _ in range(1_000)]
    shares = [sum(tenth * 3.2 <= wait < (tenth + 1) * 3.2 for wait in waits) for tenth in range(10)]
    assert sum(shares) == 1_000
    assert min(shares) > 60
