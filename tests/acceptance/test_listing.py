"""Lists by the command line: of one job, of one kind of trigger, with times as numbers."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.acceptance.deck import Deck


def test_the_runs_of_a_job(deck: Deck) -> None:
    """Those of a job alone, page by page; a job that is not there is not found, and another team's neither."""
    for slug in ("hello", "other"):
        deck.json("jobs", "create", slug, "--type", "noop")
    mine = [deck.json("trigger", "--job", "hello")["id"] for _ in range(3)]
    deck.json("trigger", "--job", "other")
    deck.json("trigger", "noop")
    page = deck.json("runs", "list", "--job", "hello", "--limit", "2")
    rest = deck.json("runs", "list", "--job", "hello", "--limit", "2", "--cursor", page["cursor"])
    assert [run["id"] for run in (*page["runs"], *rest["runs"])] == mine[::-1]
    foreign_cursor = deck.run("runs", "list", "--job", "other", "--cursor", page["cursor"])
    assert (foreign_cursor.returncode, "cursor" in foreign_cursor.stderr) == (2, True)
    assert deck.run("runs", "list", "--job", "nowhere").returncode == 3
    deck.json("teams", "create", "others")
    assert deck.run("runs", "list", "--job", "hello", "--team", "others", "--project", "").returncode == 3
    assert "no runs match" in deck.run("runs", "list", "--job", "hello", "--trigger", "scheduled").stderr


def test_the_runs_of_a_kind_of_trigger(deck: Deck) -> None:
    """How a run was made is a filter like any other."""
    now, later = deck.json("trigger", "noop"), deck.json("trigger", "noop", "--delay", "1h")
    for kind, run in (("immediate", now), ("delayed", later)):
        found = deck.json("runs", "list", "--trigger", kind)["runs"]
        assert [(each["id"], each["trigger_type"]) for each in found] == [(run["id"], kind)]
    assert deck.json("runs", "list", "--trigger", "scheduled")["runs"] == []
    refused = deck.run("runs", "list", "--trigger", "delay")
    assert refused.returncode == 2
    assert (
        "'delay' is no kind of trigger; choose from immediate, delayed, scheduled, dependency"
        in refused.stderr
    )


def test_times_as_numbers(deck: Deck) -> None:
    """The same moment as text and as milliseconds since 1970, before the command's name as behind it."""
    run = deck.json("trigger", "noop", "--at", "2031-01-31T10:30:00.250Z")
    assert run["scheduled_at"] == "2031-01-31T10:30:00.250Z"
    number = int(datetime(2031, 1, 31, 10, 30, 0, 250_000, tzinfo=UTC).timestamp() * 1_000)
    shown = deck.json("runs", "show", run["id"], "--epoch-ms", "--events")
    listed = deck.json("--epoch-ms", "runs", "list")["runs"][0]
    assert shown["scheduled_at"] == listed["scheduled_at"] == number
    assert isinstance(shown["events"][0]["at"], int)
    assert shown["started_at"] is None
    assert deck.show(run["id"]) == run, "and the next command says it as text again"
