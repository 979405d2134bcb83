"""`jobdeck runner --processes N`: a parent and its workers, through deaths, signals and the end of the work."""

from __future__ import annotations

import os
import select
import signal
from typing import Any

import pytest

from tests.acceptance.deck import PATIENCE, Deck


def live(deck: Deck, count: int) -> list[dict[str, Any]]:
    """The workers that wait for work or are at it, once there are `count` of them."""

    def found() -> list[dict[str, Any]] | None:
        workers = [each for each in deck.json("workers", "list") if each["state"] in ("idle", "busy")]
        return workers if len(workers) == count else None

    workers: list[dict[str, Any]] = deck.until(found)
    return workers


def ended(pid: int) -> bool:
    """Whether the process ends; waits for it by a descriptor of the process."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with os.fdopen(descriptor):
        return bool(select.select([descriptor], [], [], PATIENCE)[0])


@pytest.mark.parametrize("database_kind", ["postgresql"])
def test_a_killed_worker_is_followed_by_another(deck: Deck) -> None:
    """kill -9 of one: its run is recovered and completed, a new worker comes, and SIGTERM ends them all in order."""
    run = deck.json("trigger", "sleep", "-p", "seconds=4")
    parent = deck.worker("--processes", "2", "--concurrency", "1")
    live(deck, 2)
    (busy,) = deck.until(lambda: [each for each in live(deck, 2) if each["state"] == "busy"])
    os.kill(busy["pid"], signal.SIGKILL)
    shown = deck.until(lambda: (found := deck.show(run["id"]))["finished_at"] and found)
    assert (shown["status"], shown["crash_count"]) == ("completed", 1)
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["crashed", "completed"]
    workers = live(deck, 2)
    assert busy["pid"] not in [worker["pid"] for worker in workers]
    assert f"worker process {busy['pid']} died of signal 9 (Killed)" in deck.log_of(0)
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(PATIENCE) == 0
    assert all(ended(worker["pid"]) for worker in workers)
    states = {worker["pid"]: worker["state"] for worker in deck.json("workers", "list")}
    assert [states[worker["pid"]] for worker in workers] == ["stopped", "stopped"]


@pytest.mark.parametrize("database_kind", ["postgresql"])
def test_workers_end_with_their_parent_however_it_dies(deck: Deck) -> None:
    """kill -9 of the parent: its workers stop in order and give their runs back without an attempt burnt."""
    run = deck.json("trigger", "sleep", "-p", "seconds=600")
    parent = deck.worker("--processes", "2")
    workers = live(deck, 2)
    deck.until(lambda: deck.show(run["id"])["status"] == "running")
    parent.kill()
    parent.wait()
    assert all(ended(worker["pid"]) for worker in workers)
    shown = deck.show(run["id"])
    assert (shown["status"], shown["crash_count"], shown["failures"]) == ("pending", 0, 0)
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["interrupted"]


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_a_second_signal_does_not_wait_for_the_grace(deck: Deck) -> None:
    """Once: running work goes on; twice: it is given back at once, by all workers."""
    deck.settings["JOBDECK_RUNNER__SHUTDOWN_GRACE"] = "1h"
    deck.json("trigger", "sleep", "-p", "seconds=600", "--count", "2")
    parent = deck.worker("--processes", "2", "--concurrency", "1")
    live(deck, 2)
    deck.until(lambda: [each["state"] for each in live(deck, 2)] == ["busy", "busy"])
    parent.send_signal(signal.SIGINT)
    deck.until(lambda: _states(deck) == ["draining", "draining"])
    assert parent.poll() is None
    parent.send_signal(signal.SIGINT)
    assert parent.wait(PATIENCE) == 0
    assert _states(deck) == ["stopped", "stopped"]
    runs = deck.json("runs", "list")["runs"]
    assert [(run["status"], run["failures"]) for run in runs] == [("pending", 0)] * 2


def _states(deck: Deck) -> list[str]:
    return [each["state"] for each in deck.json("workers", "list")]


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_all_drain_and_share_the_work(deck: Deck) -> None:
    """--drain ends with 0 when every worker has drained; each run is done once, and each line names its process."""
    deck.json("trigger", "sleep", "-p", "seconds=0.5", "--count", "24")
    parent = deck.worker("--processes", "3", "--concurrency", "2", "--drain")
    assert parent.wait(PATIENCE) == 0
    runs = deck.json("runs", "list")["runs"]
    assert [(run["status"], run["attempt"]) for run in runs] == [("completed", 1)] * 24
    workers = deck.json("workers", "list")
    assert sum(worker["finished_runs"] for worker in workers) == 24
    assert sorted(worker["pid"] for worker in workers) == sorted(_pids(deck.log_of(0)) - {parent.pid})
    assert len(workers) == 3


def _pids(log: str) -> set[int]:
    """The third word of each line."""
    return {int(line.split()[2]) for line in log.splitlines()}


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_what_keeps_a_worker_from_starting_is_said_once(deck: Deck) -> None:
    """Not by every child again and again: one line and the exit code of a single worker; --check says it alone."""
    for arguments in (("--processes", "3"), ("--check",)):
        done = deck.spawn("runner", *arguments, "--type", "xyz")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "error: no handler of the job type 'xyz' is installed here\n"
    assert deck.spawn("runner", "--check").returncode == 0
    assert deck.json("workers", "list") == []


HANDLERS = """
import threading
from jobdeck import Context, handler

@handler("deaf", cancel_grace="0.1s")
def deaf(ctx: Context) -> None:
    threading.Event().wait()
"""


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_a_worker_that_replaces_itself_stays_a_child(deck: Deck) -> None:
    """A thread that never lets go costs the process, not its id: the parent sees no death, and its end still counts."""
    (deck.folder / "deaf_handlers.py").write_text(HANDLERS)
    deck.settings["JOBDECK_HANDLERS"] = "deaf_handlers"
    deck.settings["PYTHONPATH"] = str(deck.folder)
    parent = deck.worker("--processes", "2")
    before = {worker["pid"] for worker in live(deck, 2)}
    run = deck.json("trigger", "deaf")
    deck.until(lambda: deck.show(run["id"])["status"] == "running")
    deck.run("runs", "cancel", run["id"])
    deck.until(lambda: "the worker replaces itself" in deck.log_of(0))
    deck.until(lambda: len(deck.json("workers", "list")) == 3)
    assert {worker["pid"] for worker in live(deck, 2)} == before
    assert " died " not in deck.log_of(0)
    parent.kill()
    parent.wait()
    assert all(ended(pid) for pid in before)
