"""Acts on many runs, as people ask for them: by the command line, on both databases."""

from __future__ import annotations

import json

from tests.acceptance.deck import Deck


def test_from_the_count_to_the_end(deck: Deck) -> None:
    """Counted, asked for, done by a worker while somebody stays with it; what was refused is told."""
    for number in range(3):
        deck.json("trigger", "noop", "--delay", "1h", "-p", f"echo={number}")
    gone = deck.json("trigger", "noop", "--delay", "1h", "--queue", "other")["id"]
    counted = deck.run("bulk", "cancel", "--queue", "default", "--dry-run")
    assert (counted.returncode, counted.stdout) == (0, "3 runs would be visited to cancel them\n")
    assert deck.json("bulk", "cancel", "--dry-run") == {"kind": "cancel", "total": 4}
    unasked = deck.run("bulk", "cancel", "--queue", "default")
    assert (unasked.returncode, unasked.stderr) == (
        2, "error: 3 runs match; to cancel them, add --yes\n",
    )  # fmt: skip
    nothing = deck.run("bulk", "cancel", "--type", "no_such_type", "--yes", "--wait")
    assert (nothing.returncode, nothing.stdout) == (0, "no runs to cancel match\n")
    made = deck.json("bulk", "cancel", "--yes", "--reason", "tidy up")
    assert (made["state"], made["total"]) == ("pending", 4)
    deck.run("runs", "cancel", gone)
    assert deck.worker("--drain").wait(60) == 0, deck.log_of(0)
    ended = deck.json("bulk", "show", made["id"][-6:])
    assert (ended["state"], ended["visited"], ended["done"], ended["skipped"]) == ("completed", 4, 3, 1)
    assert (ended["refused"], ended["samples"][0]["run_id"]) == ({"not_cancellable": 1}, gone)
    shown = deck.run("bulk", "show", made["id"]).stdout
    assert "cancel 4 runs" in shown
    assert "already ended as cancelled" in shown
    assert "4/4" in deck.run("bulk", "list").stdout


def test_staying_to_the_end(deck: Deck) -> None:
    """`--wait` says how far it is and ends with it; what was retried then runs."""
    ids = [deck.json("trigger", "noop")["id"] for _ in range(3)]
    for run_id in ids:
        deck.run("runs", "cancel", run_id)
    deck.worker()
    done = deck.run("bulk", "retry", "--group", "cancelled", "--yes", "--wait")
    assert done.returncode == 0, done.stderr
    assert "retry completed: 3 of 3 runs visited" in done.stdout
    assert "of 3 runs visited" in done.stderr
    deck.until(lambda: all(deck.show(run_id)["status"] == "completed" for run_id in ids))


def test_stopping(deck: Deck) -> None:
    """An operation that nobody has begun is stopped; nothing was done, and a second stop is a conflict."""
    run_id = deck.json("trigger", "noop")["id"]
    made = deck.json("bulk", "cancel", "--yes")
    stopped = deck.run("bulk", "stop", made["id"])
    assert (stopped.returncode, "cancel stopped: 0 of 1 run visited" in stopped.stdout) == (0, True)
    assert deck.run("bulk", "stop", made["id"]).returncode == 4
    assert deck.run("bulk", "show", "bulk_" + "0" * 26).returncode == 3
    unknown = deck.run("bulk", "cancel", "--status", "soon", "--json")
    assert (unknown.returncode, json.loads(unknown.stderr)["error"]["field"]) == (2, "status")
    assert deck.show(run_id)["status"] == "pending"


def test_the_runs_of_a_job(deck: Deck) -> None:
    """A saved job, and how runs were made, choose as they do in `runs list`."""
    assert deck.run("jobs", "create", "nightly", "--type", "noop").returncode == 0
    for what in ("--job nightly", "--job nightly --delay 1h", "noop --delay 1h"):
        deck.json("trigger", *what.split())
    for words, count in (("--job nightly", 2), ("--trigger delayed", 2), ("", 3)):
        assert deck.json("bulk", "cancel", *words.split(), "--dry-run")["total"] == count
    made = deck.json("bulk", "cancel", "--job", "nightly", "--trigger", "delayed", "--yes")
    assert (made["total"], sorted(made["filter"])) == (1, ["job_id", "statuses", "trigger_type"])
    assert deck.run("bulk", "cancel", "--job", "nobodys", "--dry-run").returncode == 3
