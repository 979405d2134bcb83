"""Backoff: the steps grow to a cap, and the waits are spread over the whole step."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobdeck.errors import ValidationError
from jobdeck.retry import Backoff, Growth, from_facts

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


def test_the_other_ways_to_grow() -> None:
    """Linear adds the base each time, fixed keeps it, custom takes the list and stays at its end; all under the cap."""
    linear = Backoff(base=10, cap=35, growth=Growth.LINEAR)
    assert [linear.step(failures) for failures in range(1, 6)] == [10, 20, 30, 35, 35]
    fixed = Backoff(base=10, growth=Growth.FIXED)
    assert [fixed.step(failures) for failures in (1, 2, 99)] == [10, 10, 10]
    custom = Backoff(growth=Growth.CUSTOM, delays=(1, 60, 5), cap=30)
    assert [custom.step(failures) for failures in range(1, 6)] == [1, 30, 5, 5, 5]


def test_jitter_is_for_what_grows_unless_stated() -> None:
    """Stated waits are kept; `jitter` turns it on or off."""
    draw = random.Random(1)
    stated = Backoff(base=10, growth=Growth.FIXED)
    assert {stated.delay(1, draw) for _ in range(10)} == {10}
    assert len({replace(stated, jitter=True).delay(1, draw) for _ in range(10)}) == 10
    assert {replace(Backoff(), jitter=False).delay(3, draw) for _ in range(10)} == {8}
    assert len({Backoff(growth=Growth.LINEAR).delay(3, draw) for _ in range(10)}) == 10


@given(backoffs)
def test_facts_make_it_again(backoff: Backoff) -> None:
    """What is stored of a backoff is all of it; also after it has been JSON."""
    assert from_facts(json.loads(json.dumps(backoff.facts()))) == backoff


@pytest.mark.parametrize(
    "facts",
    [{}, {"base": "x"}, Backoff().facts() | {"growth": "wild"}, Backoff().facts() | {"delays": 5}],
)
def test_facts_that_are_none(facts: dict[str, object]) -> None:
    """Stored facts that somebody has changed are refused, not believed."""
    with pytest.raises(ValidationError, match="backoff"):
        from_facts(facts)


def test_waits_are_spread_over_the_whole_step() -> None:
    """A thousand runs that fail together do not come back together: each tenth of the step gets its share."""
    draw = random.Random(7)
    waits = [Backoff().delay(5, draw) for _ in range(1_000)]
    shares = [sum(tenth * 3.2 <= wait < (tenth + 1) * 3.2 for wait in waits) for tenth in range(10)]
    assert sum(shares) == 1_000
    assert min(shares) > 60
