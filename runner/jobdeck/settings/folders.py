"""Where jobdeck keeps things when nobody says otherwise (XDG base directories)."""

from __future__ import annotations

import os
import pwd
from pathlib import Path


def data_home() -> Path:
    """`$XDG_DATA_HOME/jobdeck`, else `~/.local/share/jobdeck`."""
    return _xdg("XDG_DATA_HOME", ".local/share") / "jobdeck"


def config_home() -> Path:
    """`$XDG_CONFIG_HOME/jobdeck`, else `~/.config/jobdeck`."""
    return _xdg("XDG_CONFIG_HOME", ".config") / "jobdeck"


def _xdg(variable: str, fallback: str) -> Path:
    # The XDG specification says that a relative path there is to be ignored.
    path = Path(os.environ.get(variable, ""))
    return path if path.is_absolute() else home() / fallback


def home() -> Path:
    """The user's home folder, or `/`, so that an account without one gets an error that names the path."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")


def os_user() -> str:
    """The name of the user this process runs as; `uid-1000` where the system knows no name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid-{os.getuid()}"


def make_private(folder: Path) -> Path:
    """Make `folder` with mode 0700 if it is missing; one that exists keeps its mode. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
