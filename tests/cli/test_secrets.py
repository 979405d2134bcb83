"""`jobdeck secrets` and what `jobdeck doctor` says of their sources: names, places, teams; never a value."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from jobdeck.cli.main import build, run
from jobdeck.doctor import _secrets
from jobdeck.secret import sources
from jobdeck.settings import load_settings

VALUE = "hunter2-hunter2"


class Broken:
    """An entry point whose package cannot be imported."""

    name, value = "keyring", "acme_secrets:get"

    def load(self) -> Any:
        raise ImportError("No module named 'acme_secrets'")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of secrets named by the configuration, for a server's database with one grant."""
    for variable in [name for name in os.environ if name.startswith("JOBDECK_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "secrets.toml"
    path.write_text(f'CRM = "{VALUE}"\nLOOSE = "{VALUE}"\n[team.ops]\nPAGER = "{VALUE}"\n')
    path.chmod(0o600)
    config = tmp_path / "jobdeck.toml"
    config.write_text(
        f'database_url = "postgresql://nobody@127.0.0.1:9/none"\n[secrets]\nfile = "{path}"\n'
        '[secrets.teams]\ncrm = ["acme", "ops"]\nSMTP = ["*"]\n'
    )
    config.chmod(0o600)
    monkeypatch.setenv("JOBDECK_SECRET_SMTP", VALUE)
    return path


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run(build(), ["secrets", *arguments])
    said = capsys.readouterr()
    assert VALUE not in said.out + said.err
    return code, said.out, said.err


def test_the_list(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names with source and teams, for people and for programs; no database is asked."""
    code, out, err = call(capsys, "list")
    rows: Sequence[list[str]] = [line.split(None, 2) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert rows[0] == ["NAME", "SOURCE", "TEAMS"]
    assert [[part.strip() for part in row] for row in rows[1:]] == [
        ["CRM", str(file), "acme, ops"],
        ["LOOSE", str(file), "none"],
        ["PAGER", str(file), "ops"],
        ["SMTP", "environment", "all"],
    ]
    code, out, _ = call(capsys, "list", "--json")
    assert json.loads(out)[0] == {"name": "CRM", "source": str(file), "teams": ["acme", "ops"]}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["CRM", "--team", "acme"], 0, "secret://CRM is there for the team acme: "),
        (["secret://crm", "--team", "ops"], 0, "secret://CRM is there for the team ops: "),
        (["CRM", "--team", "other"], 6, "is not granted to the team other"),
        (["PAGER", "--team", "acme"], 6, "is not granted to the team acme"),
        (["PAGER", "--team", "ops"], 0, "is there for the team ops"),
        (["a-b"], 2, "is no name of a secret"),
    ],
)
def test_one_secret_for_a_team(
    arguments: list[str], code: int, words: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The answer of a worker, as a sentence and as an exit code."""
    ended, out, err = call(capsys, "check", *arguments)
    assert (ended, words in out + err) == (code, True), out + err


def test_a_granted_secret_that_is_nowhere(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 3, and in the list it stands without a source."""
    monkeypatch.delenv("JOBDECK_SECRET_SMTP")
    code, _, err = call(capsys, "check", "SMTP", "--json")
    assert (code, json.loads(err)["error"]["code"]) == (3, "secret_not_found")
    assert "not set here" in call(capsys, "list")[1]


def test_troubles_are_said(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `secrets list`, by `doctor` with what mends it, and by a worker that would not start."""
    assert _secrets(load_settings()).state == "ok"
    monkeypatch.setattr(sources, "entry_points", lambda **_: [Broken()])
    broken = _secrets(load_settings())
    assert (broken.state, broken.says) == (
        "warn",
        "provider keyring cannot be loaded: ImportError: No module named 'acme_secrets'",
    )
    assert "acme_secrets" in call(capsys, "list")[2]
    file.chmod(0o644)
    found = _secrets(load_settings())
    assert (found.state, found.mend) == ("fail", f"chmod 600 {file}")
    assert f"chmod 600 {file}" in call(capsys, "list")[2]
    assert run(build(), ["runner", "--check"]) == 2
    assert f"it is not read. Run: chmod 600 {file}" in capsys.readouterr().err


def test_the_usual_file_is_used_where_it_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the configuration; a file that is named must be there."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert load_settings().secrets_file is None
    usual = tmp_path / "jobdeck" / "secrets.toml"
    usual.parent.mkdir()
    usual.touch(mode=0o600)
    assert load_settings().secrets_file == usual
    named = load_settings(overrides={"secrets": {"file": "none.toml"}})
    assert named.secrets_file == tmp_path / "none.toml"
    assert "No such file" in _secrets(named).says
