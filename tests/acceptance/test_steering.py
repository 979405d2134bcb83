"""What people do to runs, as they do it: by the command line, on both databases."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.acceptance.deck import Deck


def as_bob(deck: Deck, *arguments: str, actor: str = "bob") -> Any:
    """A command of somebody else."""
    before = dict(deck.settings)
    deck.settings["JOBDECK_ACTOR"] = actor
    try:
        return deck.run(*arguments)
    finally:
        deck.settings.clear()
        deck.settings.update(before)


def test_an_approval(deck: Deck) -> None:
    """The asker is refused with exit code 6, another one approves; a rejection needs a reason, and says it."""
    run = deck.json("trigger", "noop", "--needs-approval", "-p", "echo=1")
    assert (run["status"], run["actions"]) == ("awaiting_approval", ["approve", "reject", "cancel"])
    own = deck.run("runs", "approve", run["id"])
    assert (own.returncode, "[approvals]" in own.stderr) == (6, True)
    changed = as_bob(deck, "runs", "approve", run["id"], "--seen", "0" * 64)
    assert (changed.returncode, "changed since it was shown" in changed.stderr) == (4, True)
    approved = as_bob(deck, "runs", "approve", run["id"], "--seen", run["request_hash"])
    assert (approved.returncode, approved.stdout) == (0, f"{run['id']} held\n")
    shown = deck.run("runs", "show", run["id"]).stdout
    assert "approval" in shown
    assert "by bob" in shown
    again = as_bob(deck, "runs", "reject", run["id"], "--reason", "late")
    assert (again.returncode, "is pending" in again.stderr) == (4, True)
    other = deck.json("trigger", "noop", "--needs-approval")["id"]
    assert as_bob(deck, "runs", "reject", other).returncode == 2
    assert as_bob(deck, "runs", "reject", other, "--reason", "no need").returncode == 0
    assert deck.show(other)["error"] == "rejected by bob: no need"
    deck.settings["JOBDECK_APPROVALS__OWN"] = "true"
    mine = deck.json("trigger", "noop", "--needs-approval")["id"]
    assert deck.run("runs", "approve", mine).returncode == 0


def test_waiting_for_another_run(deck: Deck) -> None:
    """`--after`: held until the other has ended, then run; a wrong condition or id is refused."""
    first = deck.json("trigger", "noop")["id"]
    second = deck.json("trigger", "noop", "--after", first[-6:])
    third = deck.json("trigger", "noop", "--after", f"{first}:failed")["id"]
    assert (second["label"], second["waits"]) == (
        "held", [{"run_id": first, "condition": "completed", "open": True}],
    )  # fmt: skip
    assert "waits for the end of 1 other run" in deck.run("runs", "list").stdout
    assert deck.run("trigger", "noop", "--after", f"{first}:soon").returncode == 2
    assert deck.run("trigger", "noop", "--after", "run_" + "0" * 26).returncode == 3
    assert deck.worker("--drain").wait(60) == 0, deck.log_of(0)
    assert deck.show(second["id"])["status"] == "completed"
    found = deck.show(third)
    assert (found["status"], found["failure_kind"]) == ("cancelled", "dependency")
    assert f"waited for {first} (failed)" in deck.run("runs", "show", third).stdout
    late = deck.run("trigger", "noop", "--after", f"{first}:failed")
    assert (late.returncode, "can never be failed" in late.stderr) == (4, True)


def test_keys(deck: Deck) -> None:
    """The same request is the same run; another one under its key, and a second active one, are told apart."""
    first = deck.json("trigger", "noop", "--idempotency-key", "k")
    again = deck.run("trigger", "noop", "--idempotency-key", "k")
    assert (again.returncode, again.stdout) == (0, first["id"] + "\n")
    assert "nothing new was made" in again.stderr
    other = deck.run("trigger", "noop", "-p", "echo=2", "--idempotency-key", "k", "--json")
    assert other.returncode == 4
    told = json.loads(other.stderr)["error"]
    assert (told["code"], told["existing_run_id"]) == ("idempotency_mismatch", first["id"])
    held = deck.json("trigger", "noop", "--dedupe-key", "d")["id"]
    assert deck.json("trigger", "noop", "--dedupe-key", "d")["id"] == held
    refused = deck.run("trigger", "noop", "--dedupe-key", "d", "--on-conflict", "reject")
    assert (refused.returncode, held in refused.stderr) == (4, True)
    newest = deck.json("trigger", "noop", "--dedupe-key", "d", "--on-conflict", "replace")["id"]
    assert (deck.show(held)["status"], deck.show(newest)["status"]) == ("cancelled", "pending")


def test_a_batch_from_a_file_and_from_standard_input(deck: Deck) -> None:
    """Every line gets its answer; the exit code is that of the first that failed; the good ones are stored."""
    lines = [
        {"params": {"echo": 1}, "queue": "slow", "delay": "1h", "tags": {"k": "v"}},
        {"type": "sleep", "params": {"seconds": 0}, "idempotency_key": "k"},
        {"type": "unheard_of"},
        {"type": "sleep", "params": {"seconds": 0}, "idempotency_key": "k"},
        {"params": {"echo": 2}, "colour": "red"},
        {"params": [1]},
        {"priority": "high"},
    ]
    text = "\n".join([*map(json.dumps, lines), "{", "", "[]"])
    (deck.folder / "batch.ndjson").write_text(text)
    done = deck.run("trigger", "noop", "--batch", "batch.ndjson", "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 2
    assert [row["status"] for row in told["results"]] == [
        "created", "created", "failed", "deduplicated", *["failed"] * 5,
    ]  # fmt: skip
    assert {name: told[name] for name in ("total", "created", "deduplicated", "failed")} == {
        "total": 9, "created": 2, "deduplicated": 1, "failed": 6,
    }  # fmt: skip
    assert len(deck.json("runs", "list")["runs"]) == 2
    run = deck.show(told["results"][0]["id"])
    assert (run["queue"], run["label"], run["tags"]) == ("slow", "scheduled", {"k": "v"})
    plain = deck.run("trigger", "--batch", "-", stdin='{"type": "noop"}\n')
    assert (plain.returncode, plain.stdout.split()[1]) == (0, "created")
    assert "1 created, 0 there already, 0 failed" in plain.stderr


@pytest.mark.parametrize(
    ("says", "arguments"),
    [
        ("cannot be read", ("trigger", "--batch", "nowhere.ndjson")),
        ("params stand in its lines", ("trigger", "noop", "--batch", "-", "-p", "echo=1")),
        ("name a job type", ("trigger",)),
        ("no run to attach to", ("trigger", "noop", "--dry-run", "--attach")),
        ("metadata", ("trigger", "noop", "--metadata", "[1]")),
        ("not a duration", ("trigger", "noop", "--ttl", "soon")),
    ],
)
@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_what_is_refused(deck: Deck, says: str, arguments: tuple[str, ...]) -> None:
    """One line, exit code 2, nothing stored."""
    done = deck.run(*arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done
    assert says in done.stderr
    assert deck.json("runs", "list")["runs"] == []


def test_a_dry_run(deck: Deck) -> None:
    """It shows the run that would be, for people and for programs, and stores nothing."""
    done = deck.run("trigger", "noop", "-p", "echo=1", "--priority", "2", "--ttl", "1h", "--dry-run")
    assert (done.returncode, "priority 2" in done.stdout, "expires" in done.stdout) == (0, True, True)
    assert "run_" not in done.stdout
    assert "nothing is stored" in done.stderr
    found = deck.json("trigger", "noop", "--dry-run")
    assert (found["id"], found["dry_run"], found["status"]) == (None, True, "pending")
    assert deck.json("runs", "list")["runs"] == []


def test_again_and_otherwise(deck: Deck) -> None:
    """A waiting run is changed; one that has ended is made again, as it was or with one param changed."""
    run = deck.json("trigger", "noop", "-p", "echo=1", "--delay", "1h")["id"]
    changed = deck.json("runs", "update", run, "-p", "echo=2", "--delay", "0s", "--priority", "1")
    assert (changed["params"], changed["priority"], changed["label"]) == ({"echo": 2}, 1, "held")
    assert deck.run("runs", "update", run).returncode == 2
    assert deck.worker("--drain").wait(60) == 0, deck.log_of(0)
    assert deck.show(run)["result"] == {"echo": 2}
    late = deck.run("runs", "update", run, "--priority", "2")
    assert (late.returncode, "is completed" in late.stderr) == (4, True)
    again = deck.json("runs", "rerun", run)
    assert (again["params"], again["continuation_of"]) == ({"echo": 2}, run)
    assert deck.json("runs", "rerun", run, "-p", "echo=3")["params"] == {"echo": 3}
    assert f"continues {run}" in deck.run("runs", "show", again["id"]).stdout


def test_why_and_what_happened(deck: Deck) -> None:
    """What a run waits for, with commands that can be typed, and its history in the end."""
    run = deck.json("trigger", "noop", "--needs-approval", "--delay", "1h")["id"]
    lines = deck.run("why", run).stdout.splitlines()
    assert lines[0] == f"somebody has to approve it   $ jobdeck runs approve {run}"
    assert "it is due in" in lines[1]
    assert [reason["kind"] for reason in deck.json("why", run)] == ["approval", "due", "worker"]
    for reason in deck.json("why", run)[:2]:
        assert as_bob(deck, *reason["command"].split()[1:]).returncode == 0
    assert [reason["kind"] for reason in deck.json("why", run)] == ["approval", "worker"]
    assert as_bob(deck, "runs", "approve", run).returncode == 6, "bob has changed it"
    assert as_bob(deck, "runs", "approve", run, actor="eve").returncode == 0
    assert deck.worker("--drain").wait(60) == 0, deck.log_of(0)
    told = deck.json("runs", "show", run, "--events")["events"]
    assert [event["kind"] for event in told] == [
        "enqueued",
        "approved",
        "amended",
        "approved",
        "attempt_ended",
    ]
    shown = deck.run("runs", "show", run, "--events").stdout
    assert "approved by bob" in shown
    assert deck.run("why", "run_" + "0" * 26).returncode == 3
    assert "it has ended as completed" in deck.run("why", run).stdout


def test_where_the_time_went(deck: Deck) -> None:
    """Each attempt's trace, for people and programs, and with the run itself."""
    run_id = deck.json("trigger", "noop")["id"]
    assert deck.run("runs", "trace", run_id).stdout == ""
    assert deck.worker("--drain").wait(60) == 0, deck.log_of(0)
    (attempt,) = deck.json("runs", "trace", run_id)
    names = ("queue_wait_ms", "claim_ms", "load_ms", "handler_ms", "commit_ms", "total_ms")
    assert attempt["outcome"] == "completed"
    assert tuple(attempt["trace"]) == names
    assert attempt["trace"]["total_ms"] >= attempt["trace"]["handler_ms"]
    assert deck.show(run_id)["attempts"][0]["trace"] == attempt["trace"]
    shown = deck.run("runs", "trace", run_id).stdout
    assert shown.startswith("1  completed  queue_wait ")
    assert "handler " in deck.run("runs", "show", run_id).stdout
