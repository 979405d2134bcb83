"""Members, permissions and the audit by the command line."""

from __future__ import annotations

import sqlite3

import psycopg
import pytest

from tests.acceptance.deck import Deck


def as_actor(deck: Deck, name: str) -> Deck:
    """The same installation, used by somebody."""
    deck.settings["JOBDECK_ACTOR"] = name
    return deck


def test_from_an_open_team_to_a_closed_one(deck: Deck) -> None:
    """Exit codes and words for a viewer, an operator, a stranger and the last admin; all of it is in the audit."""
    as_actor(deck, "ada")
    assert "everybody is admin here" in deck.run("members", "list").stderr
    refused = deck.run("members", "add", "ben", "--role", "viewer")
    assert (refused.returncode, "first member" in refused.stderr) == (4, True)
    assert deck.json("members", "add", "ada", "--role", "admin")["role"] == "admin"
    assert deck.run("members", "add", "ben", "--role", "viewer").stdout == "ben is viewer now\n"
    assert [each["actor"] for each in deck.json("members", "list")] == ["ada", "ben"]

    as_actor(deck, "ben")
    assert deck.run("runs", "list").returncode == 0
    refused = deck.run("trigger", "noop")
    assert (refused.returncode, "needs the permission jobs:write" in refused.stderr) == (6, True)

    as_actor(deck, "eve")
    closed, unknown = deck.run("runs", "list"), deck.run("--team", "nowhere", "runs", "list")
    assert (closed.returncode, closed.stderr) == (3, unknown.stderr.replace("nowhere", "default"))
    assert deck.json("teams", "list") == []

    as_actor(deck, "ada")
    assert deck.json("members", "set", "ben", "--role", "operator") == {
        "actor": "ben",
        "before": "viewer",
        "role": "operator",
    }
    refused = deck.run("members", "remove", "ada")
    assert (refused.returncode, "ada is the last admin" in refused.stderr) == (4, True)
    run = as_actor(deck, "ben").json("trigger", "noop")["id"]
    assert deck.run("runs", "cancel", run, "--reason", "too early").returncode == 0

    found = as_actor(deck, "ada").json("audit", "list")
    assert [(each["actor"], each["action"], each["outcome"], each["code"]) for each in reversed(found)] == [
        ("ada", "member.add", "failed", "conflict"),
        ("ada", "member.add", "done", None),
        ("ada", "member.add", "done", None),
        ("ben", "run.trigger", "denied", "forbidden"),
        ("ada", "member.set", "done", None),
        ("ada", "member.remove", "failed", "conflict"),
        ("ben", "run.trigger", "done", None),
        ("ben", "run.cancel", "done", None),
    ]
    assert (found[0]["targets"], found[0]["reason"]) == ([run], "too early")
    assert "too early" in deck.run("audit", "list", "--actor", "ben", "--action", "run.cancel").stdout
    assert deck.run("audit", "list", "--since", "1h", "--outcome", "denied").stdout.count("run.trigger") == 1


@pytest.fixture
def sealed(deck: Deck) -> Deck:
    """A run was made and a worker has sealed that."""
    deck.json("trigger", "noop")
    deck.worker("--drain").wait(60)
    deck.json("projects", "create", "later")
    deck.worker()
    deck.until(lambda: deck.json("audit", "verify")["unsealed"] == 0)
    return deck


def test_a_worker_seals_and_an_edit_is_found(sealed: Deck) -> None:
    """All rows are sealed within seconds; after an edit behind the triggers `verify` exits with 1 and names the row."""
    good = sealed.run("audit", "verify")
    assert (good.returncode, "2 rows" in good.stdout, "ok" in good.stdout) == (0, True, True)
    edit = "UPDATE audit SET actor = 'somebody else' WHERE action = 'run.trigger'"
    if sealed.url.startswith("sqlite"):
        with sqlite3.connect(sealed.url.removeprefix("sqlite:///")) as file:
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                file.execute(edit)
            file.execute("DROP TRIGGER audit_no_update")
            file.execute(edit)
    else:
        with psycopg.connect(sealed.url) as server:
            server.execute("ALTER TABLE audit DISABLE TRIGGER USER")
            server.execute(edit)
    broken = sealed.run("audit", "verify")
    assert (broken.returncode, broken.stdout.count("BROKEN")) == (1, 1)
    assert "edited: it is now run.trigger by somebody else" in broken.stdout
    assert "(seal 1)" in broken.stdout
    assert sealed.run("audit", "verify", "--json").returncode == 1
