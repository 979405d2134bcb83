"""`trigger --attach` behaves like a foreground process."""

from __future__ import annotations

import json

from tests.acceptance.deck import Deck


def test_attach_prints_progress_log_and_result(deck: Deck) -> None:
    """Progress and log on stderr, the result on stdout, exit code 0 for a completed run."""
    deck.worker()
    script = "echo ::progress 1/2 half; echo working; echo ::progress 2/2 done"
    done = deck.run("trigger", "command", "-p", f"shell={script}", "--attach", "--json")
    assert done.returncode == 0, done.stderr
    assert "working" in done.stderr
    assert json.loads(done.stdout)["result"]["exit_code"] == 0


def test_attach_tells_failure_by_its_exit_code(deck: Deck) -> None:
    """A run that does not complete ends the command with 10 and the error on stderr."""
    deck.worker()
    done = deck.run(
        "trigger", "command", "-p", "shell=echo broken >&2; exit 3", "--max-attempts", "1", "--attach"
    )
    assert done.returncode == 10
    assert "exit code 3" in done.stderr
