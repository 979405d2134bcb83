"""Bad input: one clear line on stderr, the exit code of the table, nothing stored."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest

from tests.acceptance.deck import Deck


def refused(deck: Deck, code: int, says: str, *arguments: str, stdin: str = "") -> None:
    """The command ends with `code` and one line that says `says`."""
    done = deck.run(*arguments, stdin=stdin)
    lines = done.stderr.strip().splitlines()
    assert (done.returncode, done.stdout) == (code, ""), done
    assert len(lines) == 1, done.stderr
    assert says in lines[0]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_the_exit_code_is_that_of_the_process(deck: Deck) -> None:
    """The same as a process: code, one line, no traceback."""
    done = deck.spawn("trigger", "unheard_of")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "unheard_of" in done.stderr


@pytest.mark.parametrize(
    ("code", "says", "arguments"),
    [
        (2, "seconds", ("trigger", "sleep", "-p", "seconds=soon")),
        (2, "unheard_of", ("trigger", "unheard_of")),
        (2, "JSON", ("trigger", "noop", "--params", "{")),
        (2, "twice", ("trigger", "noop", "--params", '{"echo": 1, "echo": 2}')),
        (2, "priority", ("trigger", "noop", "--priority", "11")),
        (2, "max_attempts", ("trigger", "noop", "--max-attempts", "101")),
        (2, "duration", ("trigger", "noop", "--delay", "soon")),
        (2, "queue", ("trigger", "noop", "--queue", "no spaces")),
        (2, "cursor", ("runs", "list", "--cursor", "nonsense")),
        (2, "page", ("runs", "list", "--limit", "501")),
        (2, "status", ("runs", "list", "--status", "happy")),
        (2, "since", ("runs", "list", "--since", "99999999999d")),
        (2, "short", ("runs", "show", "abc")),
        (3, "no run", ("runs", "show", "run_00000000000000000000000000")),
        (3, "no team", ("runs", "list", "--team", "strangers")),
        (3, "no project", ("trigger", "noop", "--project", "elsewhere")),
        (2, "--nonsense", ("runs", "list", "--nonsense")),
    ],
)
@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_bad_requests_store_nothing(deck: Deck, code: int, says: str, arguments: tuple[str, ...]) -> None:
    """Each mistake has its own exit code and a line that names it."""
    refused(deck, code, says, *arguments)
    assert deck.json("runs", "list")["runs"] == []


def test_params_up_to_the_limit_and_one_byte_beyond(deck: Deck) -> None:
    """262,144 bytes of params are taken, 262,145 are not, from a file as from standard input."""
    frame = len(json.dumps({"echo": ""}, separators=(",", ":")))
    (deck.folder / "fits.json").write_text(
        json.dumps({"echo": "x" * (262_144 - frame)}, separators=(",", ":"))
    )
    too_large = json.dumps({"echo": "x" * (262_145 - frame)}, separators=(",", ":"))
    (deck.folder / "large.json").write_text(too_large)
    refused(deck, 2, "262,144", "trigger", "noop", "--params", "@large.json")
    refused(deck, 2, "262,144", "trigger", "noop", "--params", "-", stdin=too_large)
    assert deck.json("runs", "list")["runs"] == []
    run = deck.json("trigger", "noop", "--params", "@fits.json")
    assert len(deck.show(run["id"])["params"]["echo"]) == 262_144 - frame


def test_a_foreign_run_looks_like_one_that_does_not_exist(deck: Deck) -> None:
    """Another team's id and an unknown one get the same answer, for every verb."""
    deck.json("teams", "create", "others")
    run = deck.json("trigger", "noop")["id"]
    for verb in ("show", "logs", "cancel", "retry"):
        foreign = deck.run("runs", verb, run, "--team", "others", "--project", "")
        unknown_id = "run_" + run[4:-6] + "000000"
        unknown = deck.run("runs", verb, unknown_id, "--team", "others", "--project", "")
        assert foreign.returncode == unknown.returncode == 3, (verb, foreign, unknown)
        assert foreign.stderr.replace(run, "ID") == unknown.stderr.replace(unknown_id, "ID")
    assert deck.show(run)["status"] == "pending"
    assert str(uuid4()) not in deck.run("runs", "list").stdout


def test_single_flight_names_the_run_that_is_there(deck: Deck) -> None:
    """A second sync of the same table is refused with exit code 4 and the id of the first."""
    params = '{"url": "https://example.test/a", "table": "a", "mode": "insert"}'
    first = deck.json("trigger", "http_sync", "--params", params)
    second = deck.run("trigger", "http_sync", "--params", params, "--json")
    assert second.returncode == 4
    assert json.loads(second.stderr)["error"]["existing_run_id"] == first["id"]
    assert len(deck.json("runs", "list")["runs"]) == 1


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_a_database_that_is_not_there(deck: Deck) -> None:
    """Exit code 7 and one line, for a server that does not answer and for a file that cannot be made."""
    deck.url = "postgresql://nobody@127.0.0.1:9/none"
    refused(deck, 7, "database", "runs", "list")
    deck.url = "sqlite:////proc/no/such/folder/jobdeck.db"
    refused(deck, 7, "database", "runs", "list")


def test_a_wrong_revision_is_refused_with_the_command(deck: Deck) -> None:
    """A server database without a schema is not touched: worker and client say which command makes it."""
    from sqlalchemy import create_engine, text

    url = deck.url.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    engine.dispose()
    refused(deck, 7, "jobdeck db upgrade", "runs", "list")
    worker = deck.worker()
    assert worker.wait(60) == 7
    assert "jobdeck db upgrade" in deck.log_of(0)
