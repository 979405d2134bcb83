"""What every command is given: the options all commands have, the settings, and a way to the client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from jobdeck.client import Client
    from jobdeck.settings import Settings

T = TypeVar("T")
OpenClient = Callable[["Settings"], AbstractAsyncContextManager["Client"]]


def open_real_client(settings: Settings) -> AbstractAsyncContextManager[Client]:
    """The client of the composition root."""
    from jobdeck.bootstrap import open_client

    return open_client(settings)


@dataclass(frozen=True)
class Call:
    """One invocation of a command. Not slotted: the settings are read on first use and kept."""

    json: bool = False
    debug: bool = False
    team: str | None = None
    project: str | None = None
    config: Path | None = None
    open_client: OpenClient = field(default=open_real_client)
    epoch_ms: bool = False
    """Whether times in JSON are numbers."""

    @cached_property
    def settings(self) -> Settings:
        """Command line over environment over file over defaults. Raises ConfigError."""
        return self.settings_with({})

    def settings_with(self, more: Mapping[str, Any]) -> Settings:
        """The settings with further overrides, nested like the file. Raises ConfigError."""
        from jobdeck.settings import load_settings

        common = {"team": self.team, "project": self.project}
        given = {key: value for key, value in common.items() if value is not None}
        return load_settings(self.config, given | dict(more))

    def ask(self, work: Callable[[Client], Awaitable[T]], settings: Settings | None = None) -> T:
        """Run `work` with an open client on an event loop of its own. Raises JobdeckError."""
        import asyncio

        chosen = settings or self.settings

        async def session() -> T:
            async with self.open_client(chosen) as client:
                return await work(client)

        return asyncio.run(session())
