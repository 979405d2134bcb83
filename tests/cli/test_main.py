"""The command line as a whole: wrong words, closed pipes, what a worker writes to its terminal."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobdeck.cli.main import build, run
from jobdeck.cli.runner import _InertFormatter


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation of its own, with nothing configured."""
    for name in [name for name in os.environ if name.startswith("JOBDECK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("JOBDECK_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["runs"], "Missing command"),
        (["fly"], "No such command"),
        (["runs", "list", "--limit", "many"], "--limit"),
        (["runner", "--concurrency", "0"], "concurrency"),
        (["runs", "logs", "abcd", "--last", "0"], "--last"),
        (["runs", "logs", "abcd", "--level", "loud"], "loud"),
        (["trigger", "noop", "--count", "0"], "--count"),
        (["members", "add", "bob", "--role", "king"], "Invalid value for '--role': 'king' is not one of"),
        (["trigger", "noop", "--tag", "novalue"], "key=value"),
        (["--config", "nowhere.toml", "runs", "list"], "nowhere.toml"),
        ([], "terminal"),
    ],
)
def test_wrong_words_end_with_two_and_one_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistake in the words of a command is a validation error like any other."""
    assert run(build(), arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert says in err


def test_the_team_of_the_settings_can_be_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The advice `jobdeck teams create ops` works also where `ops` is already the configured team."""
    monkeypatch.setenv("JOBDECK_TEAM", "ops")
    assert run(build(), ["runs", "list"]) == 3
    assert "jobdeck teams create ops" in capsys.readouterr().err
    assert run(build(), ["teams", "create", "ops"]) == 0
    assert run(build(), ["runs", "list"]) == 0


def test_a_reader_that_goes_away_is_no_error() -> None:
    """`jobdeck … | head` ends quietly."""
    process = subprocess.Popen(
        [sys.executable, "-m", "jobdeck", "types", "show", "http_sync"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")


def test_what_a_worker_writes_to_its_terminal_is_inert() -> None:
    """A handler's record, and its traceback, cannot steer the terminal in which `jobdeck runner` was started."""
    try:
        raise ValueError("bad \x1b[2J value")
    except ValueError:
        record = logging.LogRecord(
            "lib", logging.ERROR, __file__, 1, "\x1b]0;title\x07 %s", ("\x9b31m",), sys.exc_info()
        )
    text = _InertFormatter("%(message)s").format(record)
    assert all(char == "\n" or char.isprintable() for char in text)
    assert "bad \\x1b[2J value" in text
