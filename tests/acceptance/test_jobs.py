"""Saved jobs by the command line: made, changed, compared, kept in a file, run."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from sqlalchemy import update

from jobdeck.clock import to_us
from jobdeck.store.schema import schedules
from tests.acceptance.deck import Deck
from tests.faults.history import plain_engine


def test_a_job_from_its_making_to_its_run(deck: Deck) -> None:
    """Made with a few words, changed, compared, taken back, run by a worker, switched off and archived."""
    made = deck.run(
        "jobs", "create", "hello", "--type", "noop", "--set", "params.echo.a=1", "--set", "priority=2"
    )
    assert (made.returncode, "hello version 1" in made.stdout) == (0, True), made.stderr
    changed = deck.json(
        "jobs", "update", "hello", "--set", "params.echo.b=2", "--note", "more", "--if-version", "1"
    )
    assert (changed["version"], changed["definition"]["params"]) == (2, {"echo": {"a": 1, "b": 2}})
    assert deck.run("jobs", "diff", "hello", "1", "2").stdout == "  params.echo.b: (default) -> 2\n"
    assert "more" in deck.run("jobs", "versions", "hello").stdout
    run = deck.json("trigger", "--job", "hello", "-p", "echo=3")
    assert (run["job"], run["job_version"], run["priority"], run["params"]) == ("hello", 2, 2, {"echo": 3})
    assert deck.json("jobs", "rollback", "hello", "1")["version"] == 3
    second = deck.json("trigger", "--job", "hello")["id"]
    assert deck.worker("--drain").wait(60) == 0, deck.log_of(0)
    assert deck.show(run["id"])["result"] == {"echo": 3}
    assert deck.show(second)["result"] == {"echo": {"a": 1}}
    assert "hello version 3" in deck.run("runs", "show", second).stdout
    assert deck.run("jobs", "disable", "hello").stdout == "1 disabled\n"
    refused = deck.run("trigger", "--job", "hello")
    assert (refused.returncode, "jobdeck jobs enable hello" in refused.stderr) == (4, True)
    assert deck.run("trigger", "--job", "hello", "--force", "--dry-run").returncode == 0
    assert deck.json("jobs", "clone", "hello", "again")["enabled"] is False
    assert deck.json("jobs", "enable", "--type", "noop") == {"changed": 2, "enabled": True}
    assert deck.run("jobs", "archive", "hello").returncode == 0
    assert [job["slug"] for job in deck.json("jobs", "list")] == ["again"]
    assert "archived" in deck.run("jobs", "show", deck.json("jobs", "list", "--archived")[0]["id"]).stdout


def test_what_is_refused(deck: Deck) -> None:
    """Exit codes and one line each; nothing is stored."""
    deck.json("jobs", "create", "hello", "--type", "noop")
    for code, says, arguments in (
        (2, "a slug with --type", ("jobs", "create")),
        (2, "type: it is needed", ("jobs", "create", "other")),
        (2, "unheard_of", ("jobs", "create", "other", "--type", "unheard_of")),
        (2, "slug", ("jobs", "create", "No Slug", "--type", "noop")),
        (2, "priority", ("jobs", "create", "other", "--type", "noop", "--set", "priority=11")),
        (4, "there is already a job 'hello'", ("jobs", "create", "hello", "--type", "noop")),
        (3, "no job 'other'", ("jobs", "show", "other")),
        (2, "say what to change", ("jobs", "update", "hello")),
        (
            4,
            "version 1 by now, not 7",
            ("jobs", "update", "hello", "--set", "priority=1", "--if-version", "7"),
        ),
        (3, "no version 9", ("jobs", "rollback", "hello", "9")),
        (2, "name jobs", ("jobs", "disable")),
        (2, "cannot be read", ("jobs", "apply", "none.toml")),
        (2, "name a job type", ("trigger", "noop", "--job", "hello")),
        (2, "--force goes with --job", ("trigger", "noop", "--force")),
    ):
        done = deck.run(*arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1), (arguments, done)
        assert says in done.stderr, (arguments, done.stderr)
    assert [job["slug"] for job in deck.json("jobs", "list")] == ["hello"]


def test_jobs_kept_in_a_file(deck: Deck) -> None:
    """Exported, changed and applied: first the plan, then the deed, then nothing more to do."""
    deck.json("jobs", "create", "hello", "--type", "noop", "--set", "params.echo=1")
    deck.json("jobs", "create", "rest", "--type", "sleep", "--set", "params.seconds=0", "--disabled")
    text = deck.run("jobs", "export").stdout
    path = deck.folder / "jobs.toml"
    path.write_text(text.replace("echo = 1", "echo = 2") + '\n[jobs.third]\ntype = "noop"\n')
    plan = deck.run("jobs", "apply", "jobs.toml", "--dry-run")
    assert plan.stdout.splitlines() == ["update hello", "  params.echo: 1 -> 2", "keep rest", "create third"]
    assert plan.stderr == "1 to create, 1 to update, 1 to keep; nothing is done yet\n"
    assert len(deck.json("jobs", "list")) == 2
    done = deck.run("jobs", "apply", "jobs.toml")
    assert (done.returncode, done.stderr) == (0, "1 created, 1 updated, 1 kept\n")
    again = deck.json("jobs", "apply", "jobs.toml")
    assert {step["action"] for step in again["steps"]} == {"keep"}
    assert not deck.json("jobs", "show", "rest")["enabled"]
    lines = [{"slug": "a", "type": "noop"}, {"slug": "b", "type": "noop", "priority": 0}]
    (deck.folder / "batch.ndjson").write_text("\n".join(map(json.dumps, lines)))
    refused = deck.run("jobs", "create", "--batch", "batch.ndjson")
    assert (refused.returncode, "job 2 of the batch: priority" in refused.stderr) == (2, True)
    assert len(deck.json("jobs", "list")) == 3


def test_a_schedule_fires_by_itself(deck: Deck) -> None:
    """Two workers, a yearly job whose time is set to this minute by hand: one run, made by the schedule."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    cron = f"schedule.cron={now.minute} {now.hour} {now.day} {now.month} *"
    options = ("--set", cron, "--set", "schedule.misfire_grace=5m")
    job = deck.json("jobs", "create", "tick", "--type", "noop", *options)
    assert job["next_fire_at"] is not None
    assert job["next_fire_at"][:16] in deck.run("jobs", "list").stdout.replace(" ", "T")
    wrong = deck.run("jobs", "update", "tick", "--set", 'schedule.cron="0 0 30 2 *"')
    assert (wrong.returncode, "schedule" in wrong.stderr) == (2, True)
    with plain_engine(deck.url).begin() as conn:
        conn.execute(update(schedules).values(next_fire_at=to_us(now)))
    deck.worker()
    deck.worker()
    (run,) = deck.until(lambda: deck.json("runs", "list", "--type", "noop", "--status", "completed")["runs"])
    assert (run["trigger_type"], run["triggered_by"]) == ("scheduled", "schedule:tick")
    assert datetime.fromisoformat(run["scheduled_at"]) == now
    again = deck.json("jobs", "show", "tick")
    assert again["next_fire_at"] == job["next_fire_at"]
    assert deck.show(run["id"])["schedule_id"] == job["schedule_id"]
    assert deck.run("jobs", "disable", "tick").returncode == 0
    assert deck.json("jobs", "show", "tick")["next_fire_at"] is None


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_a_handler_of_the_configuration_before_any_worker(deck: Deck) -> None:
    """A module that the configuration names is known to every command, also to those that read its params by words."""
    (deck.folder / "boxes.py").write_text(
        "from pydantic import BaseModel\nfrom jobdeck import Context, handler\n"
        "class Shelf(BaseModel):\n    boxes: int\n"
        "@handler('count_boxes')\nasync def count_boxes(ctx: Context, params: Shelf) -> None: ...\n"
    )
    deck.settings |= {"JOBDECK_HANDLERS": "boxes", "PYTHONPATH": "."}
    made = deck.spawn("trigger", "count_boxes", "-p", "boxes=3", "--json")
    assert (made.returncode, json.loads(made.stdout)["params"]) == (0, {"boxes": 3}), made.stderr
    shown = deck.spawn("types", "show", "count_boxes")
    assert (shown.returncode, "boxes local" in shown.stdout) == (0, True), shown


def test_a_chain_from_its_file_to_its_runs(deck: Deck) -> None:
    """Kept in a file, run by a worker, seen from both ends; a cycle is refused with its way."""
    text = '[jobs.report]\ntype = "noop"\ndepends_on = [{ job = "extract" }]\n[jobs.extract]\ntype = "noop"\n'
    (deck.folder / "jobs.toml").write_text(text)
    deck.json("jobs", "apply", "jobs.toml")
    deck.json("jobs", "create", "clean-up", "--type", "noop")
    after = deck.run("jobs", "depend", "clean-up", "--on", "report", "--condition", "finished")
    assert after.stdout == "clean-up starts after report (finished)\n"
    refused = deck.run("jobs", "depend", "extract", "--on", "clean-up")
    assert (refused.returncode, "extract -> clean-up -> report -> extract" in refused.stderr) == (4, True)
    assert deck.run("jobs", "depend", "report", "--on", "extract", "--condition", "never").returncode == 2
    first = deck.json("trigger", "--job", "extract")["id"]
    assert deck.worker("--drain").wait(60) == 0, deck.log_of(0)
    (second,) = deck.show(first)["children"]
    (third,) = deck.show(second["run_id"])["children"]
    assert (second["job"], third["job"]) == ("report", "clean-up")
    assert deck.show(third["run_id"])["parents"][0]["run_id"] == second["run_id"]
    assert deck.show(third["run_id"])["status"] == "completed"
    assert f"of {second['job']}" in deck.run("runs", "show", third["run_id"]).stdout
    shown = deck.run("jobs", "show", "report").stdout
    assert "after     extract (completed)" in shown
    assert "then      clean-up (finished)" in shown
    assert "depends_on = [" in deck.run("jobs", "export", "report").stdout
    assert deck.run("jobs", "undepend", "clean-up", "--on", "report").stdout == (
        "clean-up starts after no other job\n"
    )


def test_how_it_went(deck: Deck) -> None:
    """History, health and statistics, for people and programs, of what a worker has done."""
    deck.json("jobs", "create", "hello", "--type", "noop")
    assert "not enough runs" in deck.run("jobs", "health", "hello").stdout
    for _ in range(5):
        deck.json("trigger", "--job", "hello")
    assert deck.worker("--drain").wait(60) == 0, deck.log_of(0)
    health = deck.json("jobs", "health", "hello", "--window", "1h")
    assert (health["completed_runs"], health["health_score"], health["note"]) == (5, 100, None)
    assert "100.0 of 100" in deck.run("jobs", "health", "hello").stdout
    page = deck.json("jobs", "history", "hello", "--limit", "3")
    assert (len(page["runs"]), page["has_more"]) == (3, True)
    assert len(deck.json("jobs", "history", "hello", "--cursor", page["cursor"])["runs"]) == 2
    assert "completed" in deck.run("jobs", "history", "hello").stdout
    stats = deck.json("stats", "--by", "type")
    assert (stats["total"]["completed_runs"], list(stats["groups"])) == (5, ["noop"])
    assert "PER HOUR" in deck.run("stats", "--window", "2h", "--by", "status").stdout
    assert deck.run("stats", "--by", "mood").returncode == 2
    assert deck.run("stats", "--window", "400d").returncode == 2
