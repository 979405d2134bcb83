"""Starts the console: terminal, log file, signals, client; and ends it so that the terminal is as it was."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from textual.constants import DEFAULT_THEME

from jobdeck.errors import ConfigError
from jobdeck_tui import safety
from jobdeck_tui.app import Console
from jobdeck_tui.driver import forgive_input
from jobdeck_tui.feed import Pace
from jobdeck_tui.filters import FilterLine, parse_filter
from jobdeck_tui.ports import ClientPort

if TYPE_CHECKING:
    from jobdeck.settings import Settings

_LOG_FILE = "console.log"
_ENDING = (signal.SIGTERM, signal.SIGHUP)


OpenClient = Callable[[], AbstractAsyncContextManager[ClientPort]]


def launch(settings: Settings, filter_text: str | None, open_client: OpenClient) -> int:
    """Run the console to its end. Raises ValidationError, ConfigError and DatabaseError before the screen is taken."""
    chosen = parse_filter(filter_text or "")
    if not safety.is_terminal():
        raise ConfigError("the console needs a terminal; without one use: jobdeck runs list")
    forgive_input()
    log_file = settings.make_data_dir() / _LOG_FILE
    with safety.logging_to(log_file):
        return asyncio.run(_run(settings, chosen, log_file, open_client))


async def _run(settings: Settings, chosen: FilterLine, log_file: Path, open_client: OpenClient) -> int:
    async with open_client() as client:
        console = Console(client, chosen=chosen, pace=Pace(settings.console.poll.total_seconds()))
        console.theme = theme_of(settings.console.theme, console)
        return await run_to_end(console, log_file)


def theme_of(wanted: str, console: Console) -> str:
    """The wanted theme; else, over SSH, the one of the terminal's own colours, which takes the fewest bytes.

    Raises ConfigError for a name that is no theme.
    """
    if wanted:
        if wanted not in console.available_themes:
            known = ", ".join(sorted(console.available_themes))
            raise ConfigError(f"{wanted!r} is not a theme; choose from {known}")
        return wanted
    return "ansi-dark" if "SSH_TTY" in os.environ else DEFAULT_THEME


async def run_to_end(console: Console, log_file: Path | None = None) -> int:
    """Run it, ending cleanly on SIGTERM and SIGHUP; nothing is held that would have to be given back."""
    loop = asyncio.get_running_loop()
    for number in _ENDING:
        loop.add_signal_handler(number, console.exit, 128 + number)
    try:
        code = await console.run_async(mouse=False)
    finally:
        for number in _ENDING:
            loop.remove_signal_handler(number)
    if console.failure is not None:
        print(safety.crash_line(console.failure, log_file), file=sys.stderr)
        return 1
    return 1 if code is None else code
