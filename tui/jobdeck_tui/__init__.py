"""The terminal console of jobdeck. Importing this imports no Textual; running the console does."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobdeck.settings import Settings

__all__ = ["run_console"]

_FPS = "30"
"""Most frames a second: enough for a held-down key, a third of the bytes over SSH."""


def run_console(settings: Settings, *, filter_text: str | None = None) -> int:
    """Run the console in this terminal until the operator leaves; returns the exit code.

    `filter_text` is a filter as typed after `/`. Raises ValidationError for one that makes no sense, ConfigError
    without a terminal or for an unknown theme, DatabaseError where the database cannot be used.
    """
    # Textual reads these once, when it is imported.
    os.environ.setdefault("TEXTUAL_FPS", _FPS)
    os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    from jobdeck.bootstrap import open_client
    from jobdeck_tui.launch import launch

    return launch(settings, filter_text, lambda: open_client(settings))
