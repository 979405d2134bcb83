"""Pull queues and parked runs by the command line: what a program and an operator type, and what they are told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.acceptance.deck import PATIENCE, Deck, Done
from tests.handlers.api import Reply, serving

RUNS = 60
ROOT = Path(__file__).parents[2]


@contextmanager
def program(deck: Deck) -> Iterator[subprocess.Popen[str]]:
    """An outside program that is ready to work on the queue `outside`."""
    started = subprocess.Popen(
        [sys.executable, "-m", "tests.acceptance.program", "outside"],
        env=deck.environment,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with started:
        try:
            assert started.stdout is not None
            assert started.stdout.readline() == "ready\n"
            yield started
        finally:
            started.kill()


def test_two_programs_share_a_queue(deck: Deck) -> None:
    """60 runs, two programs at the same time: each run is claimed and ended once, and both have had some."""
    deck.json("queues", "create", "outside", "--pull")
    items = "".join(json.dumps({"type": "noop", "queue": "outside"}) + "\n" for _ in range(RUNS))
    made = deck.json("trigger", "--batch", "-", stdin=items)
    assert made["created"] == RUNS
    with program(deck) as one, program(deck) as other:
        for each in (one, other):
            assert each.stdin is not None
            each.stdin.write("\n")
            each.stdin.flush()
        shares = [json.loads(each.communicate(timeout=PATIENCE)[0]) for each in (one, other)]
    assert all(shares)
    assert sorted(shares[0] + shares[1]) == sorted(row["id"] for row in made["results"])
    (queue,) = [each for each in deck.json("queues", "list") if each["name"] == "outside"]
    assert (queue["pull"], queue["waiting"], queue["running"]) == (True, 0, 0)
    workers = {deck.show(share[0])["attempts"][0]["worker"] for share in shares}
    assert workers == {f"program:{each.pid}" for each in (one, other)}


def refused(done: Done, code: int, kind: str) -> bool:
    return done.returncode == code and json.loads(done.stderr)["error"]["code"] == kind


def test_what_a_program_types(deck: Deck) -> None:
    """Claim, extend, ack twice, wrong tokens, a run that is not there: replies, exit codes; tokens by file and pipe."""
    assert deck.run("queues", "create", "outside", "--pull").stdout == "pull queue outside made\n"
    run_id = deck.json("trigger", "noop", "--queue", "outside", "-p", "echo=secret://KEY")["id"]
    assert "a program has to claim it" in deck.run("why", run_id).stdout
    (work,) = deck.json("claim", "outside", "--visibility", "5m")
    token = work["run_token"]
    assert (work["id"], work["attempt"], work["params"]) == (run_id, 1, {"echo": "secret://KEY"})
    assert deck.json("claim", "outside") == []
    (deck.folder / "token").write_text(f"{token}\n")
    assert deck.run("extend", run_id, "--token", "@token", "--visibility", "10m").returncode == 0
    for wrong in ("ack_forged", token[:-1]):
        assert refused(deck.run("ack", run_id, "completed", "--token", wrong, "--json"), 5, "stale_lease")
    unknown = run_id[:-4] + ("0000" if run_id[-4:] != "0000" else "1111")
    assert refused(deck.run("ack", unknown, "completed", "--token", token, "--json"), 3, "not_found")
    assert refused(deck.run("ack", run_id, "done", "--token", token, "--json"), 2, "invalid")
    first = deck.json("ack", run_id, "completed", "--token", "-", "--result", '{"rows": 7}', stdin=token)
    assert first["status"] == "completed"
    assert deck.json("ack", run_id, "completed", "--token", "@token", "--result", '{"rows": 7}') == first
    assert refused(deck.run("ack", run_id, "failed", "--token", token, "--json"), 5, "stale_lease")
    assert deck.show(run_id)["result"] == {"rows": 7}
    assert refused(deck.run("claim", "nowhere", "--json"), 3, "not_found")
    assert deck.run("queues", "delete", "outside").returncode == 0


def test_http_202(deck: Deck) -> None:
    """The other side answers 202 and ends the run later by what the request told it; the run is parked meanwhile."""
    with serving() as api:
        api.plan.append(Reply({"queued": True}, 202))
        run_id = deck.json("trigger", "http", "-p", f"url={api.url('/slow')}")["id"]
        deck.worker("--drain").wait(PATIENCE)
        (asked,) = api.asked
    shown = deck.show(run_id)
    assert (shown["status"], shown["label"], shown["worker_id"]) == ("running", "parked", None)
    assert "for another system to end it in " in deck.run("why", run_id).stdout
    told, token = asked.headers["Jobdeck-Run"], asked.headers["Jobdeck-Token"]
    done = deck.run("runs", "finish", told, "completed", "--token", token, "--result", "[1]")
    assert (done.returncode, done.stdout) == (0, f"{run_id} completed\n")
    assert token not in json.dumps(deck.show(run_id)) + deck.run("runs", "logs", run_id).stdout + deck.log_of(
        0
    )
