"""Merging the sources of settings, each able to name itself in an error."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic
from pydantic_settings import EnvSettingsSource, SettingsError

from jobdeck.errors import ConfigError
from jobdeck.settings.config_file import FILE_VARIABLE, find_config, hint, read_config
from jobdeck.settings.keys import is_variable, nearest
from jobdeck.settings.model import Settings

_PREFIX = "JOBDECK_"
# Variables that are not settings: what a run's child process is told, secrets, and switches of the tests.
_NOT_SETTINGS = frozenset({FILE_VARIABLE, "JOBDECK_RUN_ID", "JOBDECK_ATTEMPT", "JOBDECK_FENCE"})
_NOT_SETTINGS_PREFIXES = ("JOBDECK_SECRET_", "JOBDECK_TEST_")


def load_settings(config: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings of this process: `overrides` (the command line) over environment over file over defaults.

    `overrides` is nested like the file: `{"team": "ops", "runner": {"lease": "5s"}}`. Raises ConfigError:
    one line that names the source and the key.
    """
    path = find_config(config)
    sources: dict[str, Mapping[str, Any]] = {
        "command line": overrides or {},
        "environment": _environment(),
        str(path): read_config(path) if path else {},
    }
    merged: dict[str, Any] = {}
    for table in reversed(sources.values()):
        merged = _merge(merged, table)
    try:
        settings = Settings(**merged)
    except pydantic.ValidationError as error:
        raise ConfigError(_explain(error, sources)) from None
    settings._config_file = path
    return settings


def _environment() -> Mapping[str, Any]:
    for variable in os.environ:
        if not variable.upper().startswith(_PREFIX) or _is_other(variable.upper()):
            continue
        parts = variable[len(_PREFIX) :].lower().split("__")
        if not is_variable(parts):
            known = nearest(".".join(parts))
            raise ConfigError(
                f"environment: unknown variable {variable[:80]}{hint(known and variable_of(known))}"
            )
    try:
        return EnvSettingsSource(Settings)()
    except SettingsError as error:
        raise ConfigError(f"environment: {error}") from None


def _is_other(variable: str) -> bool:
    return variable in _NOT_SETTINGS or variable.startswith(_NOT_SETTINGS_PREFIXES)


def variable_of(key: str) -> str:
    """The environment variable of a dotted key."""
    return _PREFIX + key.replace(".", "__").upper()


def _merge(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(low)
    for key, value in high.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            value = _merge(below, value)
        merged[key] = value
    return merged


def _explain(error: pydantic.ValidationError, sources: Mapping[str, Mapping[str, Any]]) -> str:
    # The rejected value is left out: it may hold a password.
    first = error.errors(include_input=False, include_url=False)[0]
    keys = [part for part in first["loc"] if isinstance(part, str)]
    source = next((name for name, table in sources.items() if _has(table, keys)), "defaults")
    path = ".".join(keys)
    what = f"environment: {variable_of(path)}" if source == "environment" else f"{source}: {path}"
    if first["type"] == "extra_forbidden":
        return f"{source}: unknown key {path[:80]!r}{hint(nearest(path))}"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{what}: {first['msg'].removeprefix('Value error, ')}{more}"


def _has(table: Mapping[str, Any], keys: list[str]) -> bool:
    value: Any = table
    for key in keys:
        if not isinstance(value, Mapping):
            return value is not None
        if key not in value:
            return False
        value = value[key]
    return True
