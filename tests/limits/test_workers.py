"""Limits of the configuration of a worker and of who acts."""

from __future__ import annotations

from typing import Final

import pytest

from tests.acceptance.deck import Deck
from tests.limits.case import is_refusal

# variable, what fits, what is beyond, the constants of `jobdeck.limits` that are tried
SETTINGS: Final = (
    ("JOBDECK_RUNNER__PROCESSES", ("1", "64"), ("0", "65"), ("PROCESSES_MAX",)),
    ("JOBDECK_RUNNER__CONCURRENCY", ("1", "1000"), ("0", "1001"), ()),
    ("JOBDECK_RUNNER__LEASE", ("2s", "3660d"), ("1999ms", "3661d"), ()),
    ("JOBDECK_HTTP__PER_HOST", ("1", "1000"), ("0", "1001"), ()),
    ("JOBDECK_DATABASE__POOL_SIZE", ("2", "100"), ("1", "101"), ()),
    ("JOBDECK_RUNNER__QUEUES", ("q" * 128,), ("q" * 129,), ("QUEUE_PATTERN",)),
    ("JOBDECK_RUNNER__LABELS", ("g" * 128,), ("g" * 129,), ("LABEL_PATTERN",)),
    ("JOBDECK_ACTOR", ("a" * 128,), ("a" * 129,), ("TAG_CHARS",)),
    ("JOBDECK_TEAM", (), ("t" * 65,), ("SLUG_PATTERN", "SLUG_CHARS")),
    ("JOBDECK_PROJECT", (), ("p" * 65,), ("SLUG_PATTERN", "SLUG_CHARS")),
)  # fmt: skip


def _short(value: object) -> str:
    return value if isinstance(value, str) else ""


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize(("name", "fits", "beyond", "_limits"), SETTINGS, ids=_short)
def test_at_the_limit_and_one_beyond(
    deck: Deck, name: str, fits: tuple[str, ...], beyond: tuple[str, ...], _limits: tuple[str, ...]
) -> None:
    """Every command takes the one, and refuses the other with exit code 2 and the name of the variable."""
    for value in fits:
        done = deck_with(deck, name, value).run("runs", "list")
        assert (done.returncode, done.stderr.strip()) == (0, "no runs"), (value[:20], done)
    for value in beyond:
        done = deck_with(deck, name, value).run("runs", "list")
        assert is_refusal(done, (name,)), (value[:20], done)


def deck_with(deck: Deck, name: str, value: str) -> Deck:
    """The same deck, with this variable in its environment."""
    return Deck(deck.url, deck.folder, settings={name: value})


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_the_actor_is_kept_whole(deck: Deck) -> None:
    """128 characters of a name are in the record of what its bearer did."""
    run = deck_with(deck, "JOBDECK_ACTOR", "a" * 128).json("trigger", "noop")
    assert run["triggered_by"] == "manual:" + "a" * 128
