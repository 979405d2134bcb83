"""`jobdeck cron explain` as a user sees it."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from jobdeck.cli.main import build, run


@pytest.fixture(autouse=True)
def no_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that nothing may be written to: the command needs neither a database nor a configuration."""
    monkeypatch.setenv("JOBDECK_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)


def test_words_remarks_and_fires(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Plain English first, then what clock changes do, then the fires in the zone and in UTC; nothing is stored."""
    assert run(build(), ["cron", "explain", "30 1 * * 0", "--tz", "Europe/London", "--count", "3"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert lines[0] == "At 01:30, every Sunday (Europe/London)"
    assert sum("01:30 does not exist and fires at 02:00+0100" in line for line in lines) >= 1
    assert sum("01:30 comes twice and fires the first time only" in line for line in lines) >= 1
    heading = lines.index("") + 1
    assert lines[heading].split() == ["NEXT", "IN", "Europe/London", "UTC"]
    fires = [line.split() for line in lines[heading + 1 :]]
    assert len(fires) == 3
    for day, local_date, local_time, offset, utc in fires:
        local = datetime.fromisoformat(f"{local_date}T{local_time}{offset[:3]}:{offset[3:]}")
        assert day == "Sun"
        assert local == datetime.fromisoformat(utc)
    assert not (tmp_path / "data").exists()


def test_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """The same as values; UTC is the zone where none is given."""
    assert run(build(), ["cron", "explain", " 30  2 * * 1-5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {name: found[name] for name in ("cron", "timezone", "summary", "remarks", "clock_changes")} == {
        "cron": "30 2 * * 1-5",
        "timezone": "UTC",
        "summary": "At 02:30, Monday to Friday",
        "remarks": [],
        "clock_changes": [],
    }
    assert len(found["fires"]) == 5
    for fire in found["fires"]:
        assert fire["local"].endswith("T02:30:00+00:00")
        assert fire["utc"].endswith("T02:30:00.000Z")


def test_json_of_clock_changes(capsys: pytest.CaptureFixture[str]) -> None:
    """Each with its moment, its kind and its text."""
    assert run(build(), ["cron", "explain", "30 1 * * *", "--tz", "Europe/London", "--json"]) == 0
    changes = json.loads(capsys.readouterr().out)["clock_changes"]
    assert {change["kind"] for change in changes} == {"gap", "overlap"}
    assert all(change["at"].endswith("T01:00:00.000Z") and change["text"] for change in changes)


@pytest.mark.parametrize(
    ("arguments", "field", "says"),
    [
        (["0 0 30 2 *"], "cron", "February has no day 30"),
        (["*/60 * * * *"], "cron", "write 0"),
        (["30 2 * * 1-5", "--tz", "Europe/Londn"], "timezone", "did you mean Europe/London"),
        (["30 2 * * 1-5", "--count", "0"], "count", "--count lies between 1 and 1,000"),
        (["30 2 * * 1-5", "--count", "1001"], "count", "--count lies between 1 and 1,000"),
        (["\x1b]0;title\x07 * * * *"], "cron", "has no meaning"),
        (["9" * 5_000], "cron", "at most 100 characters"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(
    arguments: list[str], field: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """For people and, with --json, for programs, with the field that is wrong."""
    assert run(build(), ["cron", "explain", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert says in err
    assert err.strip().isprintable()
    assert run(build(), ["cron", "explain", *arguments, "--json"]) == 2
    assert json.loads(capsys.readouterr().err)["error"]["field"] == field


def test_an_expression_without_quotes_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Five words instead of one: the shell has split them, and the usage error says so in one line."""
    assert run(build(), ["cron", "explain", "30", "2", "*", "*", "1-5"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
