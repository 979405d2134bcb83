"""What handlers get to know of the configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from typing import Any, Final, Protocol

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from jobdeck.plugins import Plugins
from jobdeck.secret import Secret, remember
from jobdeck.secret.vault import ConfiguredUrls, Vault
from jobdeck.settings.model import Settings

_OWN_PACKAGE: Final = "jobdeck"


class _Run(Protocol):
    @property
    def job_type(self) -> str: ...
    @property
    def team(self) -> str: ...
    @property
    def project(self) -> str | None: ...


def settings_finder(
    settings: Settings, plugins: Plugins, vault: Vault
) -> Callable[[_Run], Mapping[str, Any]]:
    """`ctx.settings` of each run; the passwords of the configuration are masked from now on."""
    for url in (settings.resolved_database_url, *settings.targets.values()):
        _remember_password(url)

    @cache
    def find(job_type: str, team: str, project: str | None) -> Mapping[str, Any]:
        own = _own_settings(settings, job_type, team, project)
        if plugins.by_type[job_type].package != _OWN_PACKAGE:
            # Databases are named to jobdeck's own handlers alone: their addresses hold passwords.
            return own
        return own | {
            "targets": ConfiguredUrls(settings.targets, vault.for_configuration(team)),
            "free_targets": settings.is_embedded,
            "own_database_url": settings.resolved_database_url,
        }

    return lambda run: find(run.job_type, run.team, run.project)


def _own_settings(settings: Settings, job_type: str, team: str, project: str | None) -> dict[str, Any]:
    """A handler's section of the configuration, and where it may keep data and call."""
    return dict(settings.plugin.get(job_type, {})) | {
        "data_file_url": f"sqlite:///{settings.project_data_file(team, project)}",
        "files_folder": str(settings.project_files_folder(team, project)),
        "http_allow": list(settings.http.allow),
    }


def _remember_password(url: str) -> None:
    with suppress(ArgumentError):
        password = make_url(url).password
        if password and not Secret.is_reference(str(password)):
            remember(str(password))
