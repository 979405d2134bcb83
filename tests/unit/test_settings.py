"""Settings: which source wins, what is refused and how it is said, and whether the example file is true."""

from __future__ import annotations

import ast
import inspect
import os
import re
import textwrap
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from jobdeck.errors import ConfigError
from jobdeck.settings import Settings, load_settings
from jobdeck.settings.keys import known_keys
from jobdeck.settings.model import Section

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"
OPEN_TABLES = {"targets", "plugin"}


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine, and folders of the test's own."""
    for variable in [name for name in os.environ if name.upper().startswith("JOBDECK_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def config(text: str, path: Path = Path("jobdeck.toml")) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o644)
    return path


def refused(overrides: Mapping[str, Any] | None = None, file: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(file, overrides)
    assert "\n" not in caught.value.message
    return caught.value.message


def test_defaults_are_the_embedded_database_in_a_private_folder(tmp_path: Path) -> None:
    """With no config at all: SQLite in the XDG data folder, team and project `default`, the OS user acts."""
    settings = load_settings()
    assert settings.resolved_database_url == f"sqlite:///{tmp_path}/data/jobdeck/jobdeck.db"
    assert settings.is_embedded
    assert settings.commands_enabled
    assert (settings.team, settings.project) == ("default", "default")
    assert settings.resolved_actor
    assert settings.config_file is None
    assert settings.make_data_dir().stat().st_mode & 0o777 == 0o700


def test_command_line_beats_environment_beats_file_key_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each source overrides only the keys it names, inside a section too."""
    names = 'team = "file"\nproject = "file"\nactor = "file"'
    config(f'{names}\n[runner]\nlease = "5s"\npoll = "2s"\nconcurrency = 3')
    monkeypatch.setenv("JOBDECK_PROJECT", "env")
    monkeypatch.setenv("JOBDECK_ACTOR", "env")
    monkeypatch.setenv("JOBDECK_RUNNER__POLL", "3s")
    monkeypatch.setenv("JOBDECK_RUNNER__CONCURRENCY", "4")
    settings = load_settings(overrides={"actor": "line", "runner": {"concurrency": 5}})
    assert (settings.team, settings.project, settings.actor) == ("file", "env", "line")
    assert settings.runner.lease == timedelta(seconds=5)
    assert settings.runner.poll == timedelta(seconds=3)
    assert settings.runner.concurrency == 5


def test_the_file_is_searched_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--config, then $JOBDECK_CONFIG, then ./jobdeck.toml, then the XDG folder."""
    config('team = "xdg"', tmp_path / "config/jobdeck/jobdeck.toml")
    assert load_settings().team == "xdg"
    config('team = "here"')
    assert load_settings().team == "here"
    monkeypatch.setenv("JOBDECK_CONFIG", str(config('team = "variable"', tmp_path / "v.toml")))
    assert load_settings().team == "variable"
    given = config('team = "given"', tmp_path / "g.toml")
    settings = load_settings(given)
    assert settings.team == "given"
    assert settings.config_file == given


def test_a_named_file_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file somebody asked for is never silently skipped."""
    assert "--config names none.toml" in refused(file=Path("none.toml"))
    monkeypatch.setenv("JOBDECK_CONFIG", "none.toml")
    assert "JOBDECK_CONFIG names none.toml" in refused()


def test_lists_and_open_tables_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list is `a,b` or JSON; targets and plugin settings take names people choose."""
    monkeypatch.setenv("JOBDECK_RUNNER__QUEUES", "mail, reports")
    monkeypatch.setenv("JOBDECK_HTTP__ALLOW", '["10.0.0.0/8"]')
    monkeypatch.setenv("JOBDECK_TARGETS__WAREHOUSE", "postgresql://h/w")
    monkeypatch.setenv("JOBDECK_PLUGIN__HTTP_SYNC__PAGE", "200")
    monkeypatch.setenv("JOBDECK_SECRETS__TEAMS", '{"CRM": ["acme"], "smtp": ["*"]}')
    settings = load_settings()
    assert settings.secrets.teams == {"CRM": ["acme"], "smtp": ["*"]}
    assert settings.runner.queues == ["mail", "reports"]
    assert settings.http.allow == ["10.0.0.0/8"]
    assert settings.targets == {"warehouse": "postgresql://h/w"}
    assert settings.plugin["http_sync"]["page"] in ("200", 200)


def test_an_unknown_key_names_the_file_and_the_nearest_key() -> None:
    """A misspelt key is an error that says where it stands and what was probably meant."""
    path = config('[runner]\nleese = "5s"').absolute()
    assert refused() == f"{path}: unknown key 'runner.leese'; did you mean 'runner.lease'?"
    config("concurency = 5")
    assert refused() == f"{path}: unknown key 'concurency'; did you mean 'runner.concurrency'?"
    config("zzz = 5")
    assert refused() == f"{path}: unknown key 'zzz'; config.example.toml lists every key"


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("JOBDECK_DATABSE_URL", "JOBDECK_DATABASE_URL"),
        ("JOBDECK_RUNNER__LEESE", "JOBDECK_RUNNER__LEASE"),
        ("JOBDECK_RUNNER_LEASE", "JOBDECK_RUNNER__LEASE"),
        ("JOBDECK_TEAM__X", "JOBDECK_TEAM"),
    ],
)
def test_an_unknown_variable_is_refused(variable: str, meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt variable would else be silently without effect."""
    monkeypatch.setenv(variable, "1s")
    assert refused() == f"environment: unknown variable {variable}; did you mean {meant!r}?"


def test_variables_that_are_no_settings_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets, switches of the tests and what a run's child is told do not stop jobdeck."""
    for name in ("SECRET_X", "TEST_PG", "RUN_ID", "ATTEMPT", "FENCE"):
        monkeypatch.setenv(f"JOBDECK_{name}", "x")
    assert load_settings().team == "default"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"runner": {"lease": "soon"}}, "command line: runner.lease: 'soon' is not a duration"),
        ({"runner": {"lease": "1s"}}, "command line: runner.lease: Input should be greater than"),
        ({"runner": {"concurrency": 0}}, "command line: runner.concurrency: "),
        ({"runner": {"queues": ["a b"]}}, "command line: runner.queues: "),
        ({"runner": {"labels": ["a b"]}}, "command line: runner.labels: "),
        ({"runner": {"types": [""]}}, "command line: runner.types: "),
        ({"runner": {"processes": 0}}, "command line: runner.processes: "),
        ({"runner": {"processes": 65}}, "command line: runner.processes: "),
        ({"runner": {"queues": "[1"}}, "looks like a JSON list"),
        ({"http": {"allow": ["localhost"]}}, "'localhost' is not an address or network"),
        ({"team": "No Slug"}, "command line: team: "),
        ({"database_url": "mysql://u:hunter2@h/x"}, "line: database_url: not a database jobdeck knows"),
        ({"database_url": "postgresql://u:hunter2@h:port/x"}, "host or port"),
        ({"database_url": "postgresql://u:hunter2@h"}, "names no database"),
        ({"database_url": "sqlite://"}, "names no SQLite file"),
        ({"database_url": "sqlite:///:memory:"}, "must be a SQLite file"),
        ({"targets": {"a b": "x"}}, "command line: targets.a b"),
        ({"runner": 3}, "command line: runner: "),
        ({"secrets": {"teams": {"a-b": ["acme"]}}}, "command line: secrets.teams.a-b"),
        ({"secrets": {"teams": {"CRM": ["Not A Slug"]}}}, "command line: secrets.teams.CRM"),
    ],
)
def test_a_wrong_value_names_source_and_key(overrides: Mapping[str, Any], said: str) -> None:
    """One line with the source, the key and the reason; never the password."""
    message = refused(overrides)
    assert said in message
    assert "hunter2" not in message


def test_a_wrong_value_names_the_file_or_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the source that gave the value, not the one that lost."""
    path = config('[runner]\nlease = "soon"').absolute()
    assert refused().startswith(f"{path}: runner.lease: ")
    monkeypatch.setenv("JOBDECK_RUNNER__LEASE", "later")
    assert refused().startswith("environment: JOBDECK_RUNNER__LEASE: 'later' is not a duration")


def test_broken_files_are_one_clear_line() -> None:
    """Not TOML, not UTF-8, not readable: ConfigError, no traceback."""
    assert "is not valid TOML" in refused(file=config("team = "))
    path = config("")
    path.write_bytes(b"team = '\xff'")
    assert "is not UTF-8 text" in refused()


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_others_can_write_is_refused(mode: int) -> None:
    """Who can write the file chooses the code that is imported."""
    path = config('team = "x"')
    path.chmod(mode)
    assert refused().endswith(f"can be written by others; it is not read. Run: chmod go-w {path.absolute()}")


def test_a_file_in_a_folder_anyone_can_change_is_refused(tmp_path: Path) -> None:
    """Replacing a file needs only its folder; the sticky bit stops that."""
    folder = tmp_path / "open"
    path = config('team = "x"', folder / "jobdeck.toml")
    folder.chmod(0o777)
    assert "anyone can replace it" in refused(file=path)
    folder.chmod(0o1777)
    assert load_settings(path).team == "x"


def test_a_file_of_another_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting jobdeck in somebody else's folder must not run their settings."""
    path = config('team = "x"')
    if os.getuid() == 0:
        os.chown(path, 12345, -1)
    else:
        real = os.fstat
        monkeypatch.setattr(os, "fstat", lambda fd: os.stat_result((*real(fd)[:4], 12345, *real(fd)[5:])))
    assert "belongs to another user (uid 12345)" in refused()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgres://u:p@h:5432/d", "postgresql+asyncpg://u:p@h:5432/d"),
        ("postgresql://h/d?ssl=require", "postgresql+asyncpg://h/d?ssl=require"),
        ("postgresql+asyncpg://h/d", "postgresql+asyncpg://h/d"),
        ("sqlite:////srv/x.db", "sqlite:////srv/x.db"),
        ("sqlite+aiosqlite:////srv/x.db", "sqlite:////srv/x.db"),
        ("/srv/x.db", "sqlite:////srv/x.db"),
    ],
)
def test_every_form_of_a_database_becomes_one(given: str, expected: str) -> None:
    """The store sees two forms only."""
    settings = Settings(database_url=given)
    assert settings.resolved_database_url == expected
    assert not settings.is_embedded
    assert not settings.commands_enabled


def test_relative_sqlite_paths_count_from_the_working_directory() -> None:
    """A worker started elsewhere by the console must find the same file, so paths are absolute at once."""
    here = Path.cwd()
    assert Settings(database_url="sqlite:///x.db").resolved_database_url == f"sqlite:///{here}/x.db"
    assert Settings(database_url="x.db").database_file == here / "x.db"


def test_passwords_are_not_shown() -> None:
    """Neither by repr nor by the URL for people, wherever the password stands."""
    url = "postgresql://bob:hunter2@h/d?password=hunter2&ssl=x"
    settings = Settings(database_url=url, targets={"w": url}, plugin={"a": {"token": "hunter2"}})
    assert "hunter2" not in repr(settings)
    assert settings.shown_database_url == "postgresql+asyncpg://bob:***@h/d?password=***&ssl=x"


def test_the_embedded_file_is_known_by_any_name(tmp_path: Path) -> None:
    """Naming the default file explicitly changes nothing; data_dir moves it."""
    assert Settings(database_url=f"{tmp_path}/data/jobdeck/jobdeck.db").is_embedded
    moved = Settings(data_dir=tmp_path / "moved")
    assert moved.is_embedded
    assert moved.database_file == tmp_path / "moved/jobdeck.db"


def test_project_data_files_stay_inside_the_data_folder(tmp_path: Path) -> None:
    """One file per project in private folders; a name that is no slug gets none."""
    settings = Settings(data_dir=tmp_path / "d")
    file = settings.project_data_file("ops", "crm")
    assert file == tmp_path / "d/projects/ops/crm.db"
    assert settings.project_data_file("ops", None) == tmp_path / "d/projects/ops/_team.db"
    for folder in (file.parent, file.parent.parent, file.parent.parent.parent):
        assert folder.stat().st_mode & 0o777 == 0o700
    for team, project in (("..", "x"), ("ops", "../x"), ("ops", "a/b"), ("", "x")):
        with pytest.raises(ConfigError):
            settings.project_data_file(team, project)
        with pytest.raises(ConfigError):
            settings.project_files_folder(team, project)
    assert settings.project_files_folder("ops", "crm") == tmp_path / "d/projects/ops/crm"
    assert settings.project_files_folder("ops", None) == tmp_path / "d/projects/ops/_team"


def test_the_constructor_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only load_settings looks at the environment and files."""
    monkeypatch.setenv("JOBDECK_TEAM", "env")
    config('team = "file"')
    assert Settings().team == "default"


def _meanings(model: type[BaseModel], prefix: str = "") -> dict[str, str]:
    """Of each key of the model: the docstring under the field."""
    found: dict[str, str] = {}
    body = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    assert isinstance(body, ast.ClassDef)
    for field, below in pairwise(body.body):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        part = getattr(Settings(), field.target.id, None) if model is Settings else None
        if isinstance(part, Section):
            found |= _meanings(type(part), f"{field.target.id}.")
        elif isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found[prefix + field.target.id] = str(below.value.value)
    return found


def _example_lines() -> dict[str, tuple[str, bool]]:
    """Of each key of the example: the comment above it, and whether it stands behind a '#'."""
    found: dict[str, tuple[str, bool]] = {}
    section, meaning = "", ""
    for line in EXAMPLE.read_text().splitlines():
        if header := re.fullmatch(r"\[(\w+)\]", line):
            section = header[1]
            if section in OPEN_TABLES:
                found[section] = (meaning, False)
        elif line.startswith("# "):
            meaning = line[2:]
        elif (key := re.match(r"(#?)(\w+) = ", line)) and section not in OPEN_TABLES:
            found[f"{section}.{key[2]}".lstrip(".")] = (meaning, bool(key[1]))
            meaning = ""
    return found


def test_the_example_lists_every_key_with_its_meaning() -> None:
    """Same keys as the model, each under its one line; behind '#' stand exactly those unset by default."""
    documented, meanings = _example_lines(), _meanings(Settings)
    assert set(documented) == set(known_keys())
    for key, info in known_keys().items():
        assert documented[key] == (meanings[key], info.default is None), key


def test_the_example_states_the_defaults(tmp_path: Path) -> None:
    """Loading it changes nothing, and every default is written out."""
    path = tmp_path / "example.toml"
    path.write_bytes(EXAMPLE.read_bytes())
    path.chmod(0o644)
    assert load_settings(path).model_dump() == Settings().model_dump()
    table = tomllib.loads(EXAMPLE.read_text())
    written = {f"{name}.{key}" for name, part in table.items() if isinstance(part, dict) for key in part}
    written |= {name for name, part in table.items() if not isinstance(part, dict)}
    assert written == {key for key, info in known_keys().items() if info.default is not None} - OPEN_TABLES


def test_the_commented_keys_of_the_example_are_valid(tmp_path: Path) -> None:
    """What an operator gets by removing the '#' works."""
    path = config(re.sub(r"(?m)^#(?=\S)", "", EXAMPLE.read_text()), tmp_path / "all.toml")
    settings = load_settings(path)
    assert settings.command.enabled is True
    assert settings.plugin == {"http_sync": {"page_size": 200}}
