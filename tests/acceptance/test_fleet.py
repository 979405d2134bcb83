"""Several workers on one database."""

from __future__ import annotations

import signal
from collections import Counter

import pytest

from tests.acceptance.deck import Deck

RUNS = 400


def test_four_workers_share_the_work_and_run_nothing_twice(deck: Deck) -> None:
    """Four idle workers, then many short runs at once: each runs once, none fails, every worker does its part."""
    for _ in range(4):
        deck.worker("--concurrency", "5")
    deck.until(lambda: [worker["state"] for worker in deck.json("workers", "list")].count("idle") == 4)
    deck.json("trigger", "sleep", "-p", "seconds=0.02", "--count", str(RUNS))
    deck.until(lambda: len(_listed(deck, "completed")) == RUNS)
    assert not any(_listed(deck, status) for status in ("pending", "running", "failed", "dead", "cancelled"))
    runs = _listed(deck, "completed")
    assert {run["attempt"] for run in runs} == {1}
    done = {worker["id"]: worker["finished_runs"] for worker in deck.json("workers", "list")}
    deck.until(lambda: _finished(deck) == RUNS)
    assert len(done) == 4


def test_a_drained_worker_leaves_what_is_due_later(deck: Deck) -> None:
    """--drain ends with 0 once nothing is due or running; a run due tomorrow does not hold it."""
    now = deck.json("trigger", "noop")
    later = deck.json("trigger", "noop", "--delay", "1d")
    worker = deck.worker("--drain")
    assert worker.wait(60) == 0
    assert deck.show(now["id"])["status"] == "completed"
    assert deck.show(later["id"])["label"] == "scheduled"


def test_an_unknown_type_waits_and_says_so(deck: Deck) -> None:
    """A run whose type or queue no live worker serves stays pending, labelled held, with the reason."""
    run = deck.json("trigger", "noop", "--queue", "night")
    deck.worker("--queue", "day")
    deck.until(lambda: any(worker["state"] == "idle" for worker in deck.json("workers", "list")))
    shown = deck.show(run["id"])
    assert (shown["status"], shown["label"]) == ("pending", "held")
    assert "jobdeck runner --queue night" in shown["held_reason"]


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_a_health_check_sees_whether_workers_beat(deck: Deck) -> None:
    """0 while enough workers of the host are alive; 3 where too few are: one frozen past its lease is not."""
    assert deck.run("workers", "alive").returncode == 3
    worker = deck.worker()
    deck.until(lambda: deck.run("workers", "alive").returncode == 0)
    assert deck.run("workers", "alive", "--count", "2").returncode == 3
    assert deck.run("workers", "alive", "--host", "elsewhere").stderr.startswith(
        "error: 0 of 1 workers are alive"
    )
    assert [each["pid"] for each in deck.json("workers", "alive")] == [worker.pid]
    worker.send_signal(signal.SIGSTOP)
    deck.until(lambda: deck.run("workers", "alive").returncode == 3)


def _listed(deck: Deck, status: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = deck.json("runs", "list", "--status", status, "--limit", "500")["runs"]
    return found


def _finished(deck: Deck) -> int:
    counts = Counter({worker["id"]: worker["finished_runs"] for worker in deck.json("workers", "list")})
    return counts.total()
