"""Ids: they grow, survive the way to text and back, and are found by any part of it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from itertools import pairwise
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobdeck.errors import ValidationError
from jobdeck.ids import new_id, parse_id, parse_part, prefix_range, show_id, tail, tail_bits

uuids = st.integers(min_value=0, max_value=2**128 - 1).map(lambda number: UUID(int=number))
lengths = st.integers(min_value=4, max_value=25)


def body(value: UUID) -> str:
    return show_id("run", value).removeprefix("run_")


@given(uuids)
def test_shown_and_read_back(value: UUID) -> None:
    """An id is 26 characters of one alphabet, and reads back from there, from upper case and from its UUID form."""
    shown = show_id("run", value)
    assert len(shown) == len("run_") + 26
    assert set(body(value)) <= set("0123456789abcdefghjkmnpqrstvwxyz")
    for text in (shown, body(value), body(value).upper(), str(value), value.hex, f"{{{value}}}"):
        assert parse_id("run", text) == value == parse_part("run", text)


@given(uuids, uuids)
def test_text_order_is_the_order_of_the_ids(one: UUID, other: UUID) -> None:
    """Sorting shown ids sorts the ids."""
    assert (show_id("run", one) < show_id("run", other)) == (one < other)


@given(uuids, lengths)
def test_a_prefix_spans_the_ids_that_begin_with_it(value: UUID, length: int) -> None:
    """The range of a prefix begins and ends with ids that have it, and the neighbours outside do not."""
    part = body(value)[:length]
    low, high = prefix_range(part)
    assert low <= value <= high
    assert body(low).startswith(part)
    assert body(high).startswith(part)
    for outside in (low.int - 1, high.int + 1):
        if 0 <= outside < 2**128:
            assert not body(UUID(int=outside)).startswith(part)


@given(uuids, uuids, lengths)
def test_a_tail_fixes_the_low_bits(value: UUID, other: UUID, length: int) -> None:
    """The bits of a tail hold for an id exactly where its text ends with it."""
    part = body(value)[-length:]
    number, bits = tail_bits(part)
    mask = (1 << bits) - 1
    assert value.int & mask == number
    mixed = UUID(int=(other.int & ~mask) | number)
    assert body(mixed).endswith(part)
    assert (other.int & mask == number) == body(other).endswith(part)
    assert tail(show_id("run", value), length) == part


@given(uuids, lengths)
def test_a_part_is_told_from_a_whole_id(value: UUID, length: int) -> None:
    """4 to 25 characters are a part to look up, with or without the kind and in any case."""
    for part in (body(value)[:length], body(value)[-length:]):
        assert (
            parse_part("run", part)
            == parse_part("run", part.upper())
            == parse_part("run", f"run_{part}")
            == part
        )


@given(st.text(max_size=60))
def test_any_text_is_an_id_a_part_or_refused(text: str) -> None:
    """Nothing but ValidationError comes out, and what is accepted can be looked up."""
    try:
        part = parse_part("run", text)
    except ValidationError as error:
        refused = error.message
        assert len(refused) < 800
    else:
        if isinstance(part, str):
            low, high = prefix_range(part)
            assert low <= high
            assert tail_bits(part)[1] == 5 * len(part)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "run_",
        "abc",
        "run_abc",
        "8" * 26,
        "z" * 26,
        "0" * 27,
        "job_" + "0" * 26,
        "i" * 6,
        "ab cd",
        "a\x00bcd",
    ],
)
def test_what_is_no_id(text: str) -> None:
    """Too short, too long, too large, another kind, or letters that the alphabet leaves out."""
    with pytest.raises(ValidationError):
        parse_part("run", text)


def test_new_ids_are_of_their_time() -> None:
    """Version 7 and the RFC's variant, with the milliseconds of now in front."""
    before = time.time_ns() // 1_000_000
    value = new_id()
    after = time.time_ns() // 1_000_000
    assert (value.version, value.variant) == (7, RFC_4122)
    assert before <= value.int >> 80 <= after


def test_new_ids_grow_also_when_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is greater than the one before, with a clock that runs, stands still or is set back."""
    found = [new_id() for _ in range(100)]
    now = time.time_ns()
    for moment in (now, now, now - 3_600 * 10**9, now - 1, 0):
        monkeypatch.setattr(time, "time_ns", lambda moment=moment: moment)
        found += [new_id() for _ in range(100)]
    assert all(one < other for one, other in pairwise(found))
    assert {value.version for value in found} == {7}


def test_tails_of_ids_in_a_row_differ_and_stand_together() -> None:
    """The ends of 20,000 ids in a row are all different, and each is at most 64 after the one before."""
    low = [new_id().int % 2**32 for _ in range(20_000)]
    assert len({value % 2**20 for value in low}) > 0.99 * len(low)
    assert all(1 <= (after - before) % 2**32 <= 64 for before, after in pairwise(low))


def test_threads_never_get_the_same_id() -> None:
    """8 threads make 1,000 ids each: all differ, and each thread's own grow."""
    made: list[list[UUID]] = [[] for _ in range(8)]

    def make(own: list[UUID]) -> None:
        own.extend(new_id() for _ in range(1_000))

    threads = [threading.Thread(target=make, args=(own,)) for own in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({value for own in made for value in own}) == 8_000
    assert all(own == sorted(own) for own in made)


FORKS = """
import os, sys, time
from jobdeck.ids import new_id
time.time_ns = lambda: 1_800_000_000_000_000_000  # so that only what is drawn tells them apart
for _ in range(2):
    if not (pid := os.fork()):
        print(new_id(), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
print(new_id())
"""


def test_processes_that_were_forked_draw_apart() -> None:
    """Neither two children nor their parent make the same id at the same moment."""
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, check=True)
    assert len(set(done.stdout.split())) == 3
