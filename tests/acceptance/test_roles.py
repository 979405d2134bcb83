"""Workers with roles: what they take, what they leave alone, and what a run says that waits for one."""

from __future__ import annotations

import re

import pytest

from jobdeck.ids import tail
from tests.acceptance.deck import Deck

HANDLERS = '''
from jobdeck import Context, handler

@handler("embed", labels=("gpu",))
async def embed(ctx: Context) -> str:
    """Needs a graphics card."""
    return "embedded"

@handler("letter")
async def letter(ctx: Context) -> str:
    return "sent"
'''


@pytest.fixture(autouse=True)
def _handlers(deck: Deck) -> None:
    """Two job types, found as a user's would be: by a module in the working directory and a configuration file."""
    (deck.folder / "role_handlers.py").write_text(HANDLERS)
    config = deck.folder / "jobdeck.toml"
    config.write_text('handlers = ["role_handlers"]\n')
    config.chmod(0o600)


def idle(deck: Deck, count: int) -> list[dict[str, object]]:
    """The live workers, once there are `count` of them."""

    def live() -> list[dict[str, object]] | None:
        found = [worker for worker in deck.json("workers", "list") if worker["state"] == "idle"]
        return found if len(found) == count else None

    found: list[dict[str, object]] = deck.until(live)
    return found


def test_a_run_that_asks_for_a_label_waits_for_it(deck: Deck) -> None:
    """A worker without the label never takes it, and the run says which command does; that command takes it."""
    deck.worker()
    idle(deck, 1)
    embed, letter = deck.json("trigger", "embed"), deck.json("trigger", "letter")
    deck.until(lambda: deck.show(letter["id"])["status"] == "completed")
    held = deck.show(embed["id"])
    assert (held["status"], held["label"], held["attempt"]) == ("pending", "held", 0)
    assert held["held_reason"] == (
        "no live worker with label gpu takes the job type embed; start one with: jobdeck runner --label gpu"
    )
    deck.worker(*held["held_reason"].partition("jobdeck runner ")[2].split())
    done = deck.until(lambda: (run := deck.show(embed["id"]))["finished_at"] and run)
    assert (done["status"], done["result"]) == ("completed", "embedded")


def test_a_labelled_worker_takes_the_rest_too(deck: Deck) -> None:
    """A label opens, it does not narrow; --type narrows."""
    assert deck.worker("--drain").wait(60) == 0  # makes the types known
    deck.json("trigger", "letter", "--count", "3")
    noop = deck.json("trigger", "noop")
    assert deck.worker("--label", "gpu", "--type", "letter", "--drain").wait(60) == 0
    assert [run["status"] for run in deck.json("runs", "list", "--type", "letter")["runs"]] == [
        "completed"
    ] * 3
    assert deck.show(noop["id"])["status"] == "pending"
    assert deck.worker("--label", "gpu", "--drain").wait(60) == 0
    assert deck.show(noop["id"])["status"] == "completed"


def test_the_list_of_workers_shows_roles(deck: Deck) -> None:
    """Queues, types and labels, in the table and as JSON; the job type says what it asks for."""
    deck.worker("--label", "gpu", "--label", "ssd", "--type", "embed", "--queue", "night")
    (worker,) = idle(deck, 1)
    assert (worker["labels"], worker["job_types"], worker["queues"]) == (["gpu", "ssd"], ["embed"], ["night"])
    heading, line = deck.run("workers", "list").stdout.splitlines()
    assert heading.split()[-3:] == ["QUEUES", "LABELS", "TYPES"]
    assert re.split(r"\s{2,}", line)[-3:] == ["night", "gpu, ssd", "embed"]
    assert tail(str(worker["id"])) in line
    kinds = {kind["name"]: kind for kind in deck.json("types", "list")}
    assert (kinds["embed"]["labels"], kinds["embed"]["live_workers"]) == (["gpu"], 1)
    assert (kinds["letter"]["labels"], kinds["letter"]["live_workers"]) == ([], 0)
    assert "labels    gpu" in deck.run("types", "show", "embed").stdout


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_an_unknown_type_is_one_line_and_exit_code_2(deck: Deck) -> None:
    """No worker starts that would wait for ever."""
    done = deck.spawn("runner", "--type", "leter")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr == "error: no handler of the job type 'leter' is installed here; did you mean letter?\n"
    )
