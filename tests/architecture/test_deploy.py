"""What deploy/ hands to operators names only what exists, and keeps the promises of a stop in order."""

from __future__ import annotations

import json
import re
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobdeck import limits
from jobdeck.cli.supervisor import MARGIN
from jobdeck.durations import parse_duration
from tests.architecture.commands import is_known, problem_of, variables_in

DEPLOY = Path(__file__).parents[2] / "deploy"
CONTAINERFILE = (DEPLOY / "Containerfile").read_text()


class Unit(RawConfigParser):
    """A unit of systemd; its keys keep their case."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def service() -> dict[str, str]:
    unit = Unit(strict=False)
    unit.read(DEPLOY / "systemd" / "jobdeck-runner.service")
    return dict(unit["Service"])


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


def _lists(instruction: str) -> list[list[str]]:
    """The JSON lists of an instruction of the image."""
    return [json.loads(found) for found in re.findall(rf"(?m)\b{instruction} (\[.*\])$", CONTAINERFILE)]


def _commands() -> list[str]:
    (entry,) = _lists("ENTRYPOINT")
    health, start = _lists("CMD")
    services = compose()["services"]
    given = [part["command"] for part in services.values() if "command" in part]
    return [
        service()["ExecStart"].replace("/opt/jobdeck/bin/", ""),
        " ".join(health),
        *(" ".join([*entry, *words]) for words in (start, *given)),
    ]


@pytest.mark.parametrize("line", _commands())
def test_every_command_exists(line: str) -> None:
    """Commands and options of the unit, the image, its health check and the compose file."""
    assert line.startswith("jobdeck ")
    assert problem_of(line) is None


@pytest.mark.parametrize("path", sorted(path for path in DEPLOY.rglob("*") if path.is_file()), ids=str)
def test_every_variable_is_a_setting(path: Path) -> None:
    """A misspelt one would keep a worker from starting."""
    assert [name for name in variables_in(path.read_text()) if not is_known(name)] == []


def test_nobody_is_killed_within_the_grace() -> None:
    """systemd and compose wait longer than the grace and what a worker may take beyond it."""
    needed = limits.SHUTDOWN_GRACE + MARGIN
    assert float(service()["TimeoutStopSec"]) > needed
    assert parse_duration(compose()["services"]["worker"]["stop_grace_period"]).total_seconds() > needed
    assert (service()["KillMode"], service()["KillSignal"]) == ("mixed", "SIGTERM")


def test_only_a_wrong_configuration_keeps_a_unit_down() -> None:
    """Exit code 2 is that of an invalid configuration; whatever else ends a worker, another is started."""
    assert (service()["Restart"], service()["RestartPreventExitStatus"]) == ("always", "2")


def test_workers_wait_for_the_migration() -> None:
    """Two of them; the migration waits for a server that answers."""
    services = compose()["services"]
    assert services["worker"]["depends_on"] == {"upgrade": {"condition": "service_completed_successfully"}}
    assert services["worker"]["deploy"] == {"replicas": 2}
    assert services["upgrade"]["command"] == ["db", "upgrade"]
    assert services["upgrade"]["depends_on"] == {"database": {"condition": "service_healthy"}}


def test_the_image_is_pinned_and_not_root() -> None:
    """Packages by hash, an ordinary user, and nothing copied that the ignore file does not let in."""
    (user,) = re.findall(r"(?m)^USER (\d+)", CONTAINERFILE)
    assert int(user) > 0
    assert "--require-hashes" in CONTAINERFILE
    copied = re.findall(r"(?m)^COPY (?!--from)(.*) \S+$", CONTAINERFILE)
    let_in = (DEPLOY.parent / ".dockerignore").read_text()
    for name in " ".join(copied).split():
        assert f"!{name}\n" in let_in, name
        assert (DEPLOY.parent / name).exists()
