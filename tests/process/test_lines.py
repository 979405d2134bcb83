"""Cutting a stream of bytes into lines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobdeck.process.lines import LineSplitter

CAP = 32


def split(pieces: list[bytes], cap: int = CAP) -> list[str]:
    """All the lines of a stream that arrives in these pieces."""
    splitter = LineSplitter(cap)
    return [line for piece in pieces for line in splitter.feed(piece)] + splitter.finish()


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=6))
def test_where_reads_end_does_not_matter(data: bytes, cuts: list[int]) -> None:
    """A stream gives the same lines in whatever pieces it arrives."""
    ends = sorted(cuts)
    pieces = [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]
    assert split(pieces) == split([data])


@given(st.binary(max_size=300))
def test_every_line_is_bounded_valid_text(data: bytes) -> None:
    """Whatever the bytes are, each line is UTF-8 of at most the cap."""
    assert all(len(line.encode()) <= CAP for line in split([data]))


def test_short_lines_stay_as_they_are() -> None:
    """Line breaks of both kinds end a line, empty lines and the unfinished last one count."""
    assert split([b"one\r\ntwo\n\n", "drei ä".encode()]) == ["one", "two", "", "drei ä"]


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    """Invalid bytes become U+FFFD and the rest of the line stays."""
    assert split([b"a\xff\xfeb\n"]) == ["a\ufffd\ufffdb"]


def test_a_character_cut_by_a_read_is_whole_again() -> None:
    """A read that ends within a character does no harm."""
    snowman = "☃".encode()
    assert split([snowman[:1], snowman[1:] + b"\n"]) == ["☃"]


def test_a_long_line_is_cut_with_a_mark_and_the_next_is_whole() -> None:
    """What goes beyond the cap is dropped, visibly, and only there."""
    long, after = split([b"x" * 1_000, b"y" * 1_000 + b"\nnext\n"])
    assert long == "x" * (len(long) - len("… (cut)")) + "… (cut)"
    assert len(long.encode()) == CAP
    assert after == "next"


def test_a_line_of_exactly_the_cap_is_not_cut() -> None:
    """The cap itself still fits."""
    assert split([b"x" * CAP + b"\n"]) == ["x" * CAP]


def test_an_endless_line_takes_no_memory() -> None:
    """What is held does not grow with a line that never ends."""
    splitter = LineSplitter(CAP)
    for _ in range(1_000):
        assert splitter.feed(b"x" * 1_000) == []
    assert len(splitter._held) == CAP + 1
