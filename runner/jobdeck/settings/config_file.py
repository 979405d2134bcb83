"""The configuration file: where it is, whether it may be believed, what it says."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path
from typing import Any

from jobdeck.errors import ConfigError
from jobdeck.settings import folders
from jobdeck.settings.keys import nearest, unknown_in

FILE_NAME = "jobdeck.toml"
FILE_VARIABLE = "JOBDECK_CONFIG"


def find_config(given: Path | None) -> Path | None:
    """The file to read: the given one, else `$JOBDECK_CONFIG`, else `./jobdeck.toml`, else the XDG one.

    None where there is none. Raises ConfigError where a named file is missing.
    """
    named, source = given, "--config"
    if named is None and (variable := os.environ.get(FILE_VARIABLE)):
        named, source = Path(variable), FILE_VARIABLE
    if named is not None:
        if not named.expanduser().is_file():
            raise ConfigError(f"{source} names {named}, which is not a file")
        return named.expanduser().absolute()
    for candidate in (Path.cwd() / FILE_NAME, folders.config_home() / FILE_NAME):
        if candidate.is_file():
            return candidate
    return None


def read_config(path: Path) -> dict[str, Any]:
    """The tables of the file. Raises ConfigError if others could have written it, or for an unknown key."""
    try:
        with path.open("rb") as file:
            _refuse_foreign(path, os.fstat(file.fileno()))
            _refuse_open_folder(path)
            table = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    if unknown := unknown_in(table):
        raise ConfigError(f"{path}: unknown key {unknown[:80]!r}{hint(nearest(unknown))}")
    return table


def hint(known: str | None) -> str:
    """What follows the name of an unknown key."""
    return f"; did you mean {known!r}?" if known else "; config.example.toml lists every key"


def _refuse_foreign(path: Path, info: os.stat_result) -> None:
    # Whoever can write this file chooses the modules that are imported and the database that is trusted.
    if info.st_uid not in (os.getuid(), 0):
        raise ConfigError(
            f"{path} belongs to another user (uid {info.st_uid}); it is not read. Make it yours or root's"
        )
    if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(f"{path} can be written by others; it is not read. Run: chmod go-w {path}")


def _refuse_open_folder(path: Path) -> None:
    folder = path.resolve().parent
    mode = folder.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise ConfigError(
            f"{path} lies in a folder where anyone can replace it; it is not read. Run: chmod o-w {folder}"
        )
