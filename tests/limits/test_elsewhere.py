"""Limits of what stands beside runs and jobs: claims from elsewhere, queues, pauses, by the command line."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import pytest

from jobdeck import limits
from tests.acceptance.deck import Deck
from tests.limits.case import is_refusal

# command, what fits, what is beyond, what is said of that, the constants of `jobdeck.limits` that are tried
COMMANDS: Final = (
    (("claim", "outside", "--count"), ("1", "100"), ("0", "101"), ("1 to 100 runs",), ("CLAIM_MAX",)),
    (
        ("claim", "outside", "--visibility"), ("1s", "12h"), ("999ms", "43201s"), ("visibility", "1 s and 12 h"),
        ("VISIBILITY_MIN", "VISIBILITY_MAX"),
    ),
    (
        ("queues", "limit", "reports", "--max"), ("1", "10000"), ("-1", "10001"),
        ("max_concurrency", "1 and 10000"), ("CONCURRENCY_MAX",),
    ),
    (
        ("pause", "queue", "reports", "--for"), ("1ms", "366d"), ("0s", "31622401s"),
        ("more than 0s and at most 366d",), ("DELAY_MAX",),
    ),
    (
        ("pause", "queue", "reports", "--reason"), ("r" * 512,), ("r" * 513,), ("reason", "at most 512"),
        ("REASON_CHARS",),
    ),
    (
        ("pause", "type"), ("t" * 128,), ("t" * 129,), ("no name of a job type",), ("JOB_TYPE_CHARS",),
    ),
    (("pause", "queue"), ("q" * 128,), ("q" * 129,), ("queue", "at most 128"), ("QUEUE_CHARS",)),
    (("deliveries", "list", "--limit"), ("1", "500"), ("0", "501"), ("limit", "1 and 500"), ("PAGE_MAX",)),
    (("bulk", "list", "--limit"), ("1", "500"), ("0", "501"), ("1 to 500",), ("PAGE_MAX",)),
    (("audit", "list", "--limit"), ("1", "500"), ("0", "501"), ("1", "500"), ("PAGE_MAX",)),
)  # fmt: skip


@pytest.mark.parametrize("case", COMMANDS, ids=lambda case: " ".join(case[0]))
def test_at_the_limit_and_one_beyond(
    deck: Deck,
    case: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]],
) -> None:
    """The one is taken; the other is refused with exit code 2 and one line that says what may be."""
    words, fits, beyond, says, _ = case
    assert deck.run("queues", "create", "outside", "--pull").returncode == 0
    for value in fits:
        done = deck.run(*words, value)
        assert done.returncode == 0, (value[:20], done)
    for value in beyond:
        done = deck.run(*words, value)
        assert is_refusal(done, says), (value[:20], done)


def test_as_many_as_a_claim_may_take(deck: Deck) -> None:
    """Of 101 runs a claim of 100 gives 100, for 30 seconds where nothing is said; descriptions have 512 characters."""
    done = deck.run("queues", "create", "outside", "--pull", "--description", "d" * 513)
    assert is_refusal(done, ("description", "512")), done
    made = deck.json("queues", "create", "outside", "--pull", "--description", "d" * 512)
    assert made["description"] == "d" * 512
    assert deck.run("trigger", "noop", "--queue", "outside", "--count", "101").returncode == 0
    works = deck.json("claim", "outside", "--count", "100")
    assert len({work["run_token"] for work in works}) == limits.CLAIM_MAX
    (last,) = deck.json("claim", "outside")
    run = deck.show(last["id"])
    held = datetime.fromisoformat(last["lease_until"]) - datetime.fromisoformat(run["started_at"])
    assert abs(held.total_seconds() - limits.VISIBILITY) < 0.01
