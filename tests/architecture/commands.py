"""Whether a command line that a document names exists: its commands, its options, its settings."""

from __future__ import annotations

import re
import shlex
from functools import cache
from typing import Any

import typer.main

from jobdeck.cli.main import build
from jobdeck.settings.keys import is_variable

_NO_SETTING = {"JOBDECK_CONFIG", "JOBDECK_RUN_ID", "JOBDECK_ATTEMPT", "JOBDECK_FENCE"}


@cache
def _tree() -> Any:
    return typer.main.get_command(build())


def problem_of(line: str) -> str | None:
    """What is wrong with `jobdeck …`, without running it; None where the command and each of its options exist."""
    words = shlex.split(line)
    command, rest = _tree(), words[1:]
    if rest == ["--version"]:
        return None
    while rest and hasattr(command, "commands"):
        if rest[0].startswith("-"):
            return _wrong_option(command, rest) if len(rest) == 1 else f"option {rest[0]} before a command"
        if rest[0] not in command.commands:
            return f"no command {rest[0]!r}"
        command, rest = command.commands[rest[0]], rest[1:]
    return _wrong_option(command, rest)


def _wrong_option(command: Any, words: list[str]) -> str | None:
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    given = [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    unknown = [name for name in given if name not in {*known, "--help"}]
    return f"no option {unknown[0]}" if unknown else None


def commands_in(text: str) -> list[str]:
    """Command lines of a Markdown text: code spans and console lines that begin with `jobdeck`."""
    spans = re.findall(r"`(jobdeck(?: [^`\n]+)?)`", text)
    lines = re.findall(r"(?m)^(?:\$|#) (?:[A-Z_]+=\S+ )*(?:\S*/)?(jobdeck(?: .*)?)$", text)
    found = [re.split(r"\s+#\s|\s+[&|]|\s\)|;", line)[0].strip() for line in (*spans, *lines)]
    return [
        line.replace(" …", "").replace("…", "").strip() for line in found if "jobdeck." not in line.split()[0]
    ]


def variables_in(text: str) -> set[str]:
    """Names of variables of jobdeck in any text."""
    return set(re.findall(r"\bJOBDECK_[A-Z_]+[A-Z]\b", text))


def is_known(variable: str) -> bool:
    """Whether a variable is a setting, a secret or one of the few others."""
    if variable in _NO_SETTING or variable.startswith(("JOBDECK_SECRET_", "JOBDECK_TEST_")):
        return True
    return is_variable(variable.removeprefix("JOBDECK_").lower().split("__"))
