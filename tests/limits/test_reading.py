"""Limits of lists: filters, pages, parts of ids."""

from __future__ import annotations

from typing import Final

from jobdeck import limits
from tests.acceptance.deck import Deck
from tests.limits.case import Case, is_refusal, not_refused, not_whole

_FITS, _BEYOND = "x" * limits.FILTER_CHARS, "x" * (limits.FILTER_CHARS + 1)


def _filter(option: str, field: str) -> Case:
    return Case(
        f"filter by {field}",
        ("FILTER_CHARS",),
        ((option, _FITS),),
        ((option, _BEYOND),),
        (f"{field} of a filter", "at most 512", "not 513"),
        "runs",
        ([],),
    )


RUNS: Final = (
    _filter("--type", "job_type"),
    _filter("--queue", "queue"),
    _filter("--category", "category"),
    _filter("--in-project", "project"),
    _filter("--text", "text"),
    Case(
        "page", ("PAGE_MAX",), (("--limit", "1"), ("--limit", "500")),
        (("--limit", "0"),), ("page", "1 to 500", "not 0"),
    ),
    Case("largest page", ("PAGE_MAX",), (), (("--limit", "501"),), ("page", "1 to 500", "not 501")),
    Case(
        "relative time", (), (("--since", "3660d"),),
        (("--since", "3661d"),), ("--since", "'3661d'", "between 0s and 3660d"),
    ),
)  # fmt: skip
CASES: Final = RUNS


def test_at_the_limit(deck: Deck) -> None:
    """The longest filters and the largest page are answered."""
    assert not_whole(deck, ("runs", "list"), RUNS) == []
    assert deck.json("jobs", "list", "--text", _FITS) == []


def test_one_beyond(deck: Deck) -> None:
    """One more is refused with exit code 2 and one line."""
    assert not_refused(deck, ("runs", "list"), RUNS) == []
    done = deck.run("jobs", "list", "--text", _BEYOND)
    assert is_refusal(done, ("text of a filter", "at most 512", "not 513")), done


def test_a_page_is_as_long_as_it_may_be(deck: Deck) -> None:
    """Of 501 runs a page of 500 shows 500, one without a size 50, and both say that there is more."""
    assert deck.run("trigger", "noop", "--count", "501").returncode == 0
    for words, size in ((("--limit", "500"), limits.PAGE_MAX), ((), limits.PAGE_DEFAULT)):
        page = deck.json("runs", "list", *words)
        assert (len(page["runs"]), page["has_more"]) == (size, True)


def test_parts_of_ids(deck: Deck) -> None:
    """Four characters of an id's end are enough, three are not."""
    run = deck.json("trigger", "noop")["id"]
    assert deck.show(run[-4:])["id"] == run
    assert is_refusal(deck.run("runs", "show", run[-3:]), ("short",))
