"""The file of secrets: TOML that its owner alone may read, with a table for each team that has secrets of its own."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any, Final, NamedTuple

from jobdeck.limits import REFERENCE_NAME_PATTERN
from jobdeck.secret.errors import SourceTrouble

_TEAMS: Final = "team"
# Far more than all the secrets of a host.
_BYTES: Final = 1024 * 1024
_NAME: Final = re.compile(REFERENCE_NAME_PATTERN)


class _Content(NamedTuple):
    shared: Mapping[str, str]
    teams: Mapping[str, Mapping[str, str]]


class SecretsFile:
    """`NAME = "value"` for all, `[team.SLUG]` for one team; read again when it has changed."""

    def __init__(self, path: Path) -> None:
        self.label = str(path)
        self._path = path
        self._read: tuple[tuple[int, ...], _Content] | None = None

    def shared(self, name: str) -> str | None:
        return self._content().shared.get(name)

    def own(self, team: str, name: str) -> str | None:
        return self._content().teams.get(team, {}).get(name)

    def names(self) -> Iterator[tuple[str, str | None]]:
        content = self._content()
        yield from ((name, None) for name in content.shared)
        yield from ((name, team) for team, table in content.teams.items() for name in table)

    def check(self) -> None:
        self._content()

    def _content(self) -> _Content:
        try:
            return self._load()
        except OSError as error:
            raise SourceTrouble(f"{self._path} cannot be read: {error.strerror}") from None

    def _load(self) -> _Content:
        _refuse_foreign_link(self._path)
        with FileIO(self._path, opener=_without_waiting) as file:
            facts = os.fstat(file.fileno())
            _refuse(self._path, facts)
            stamp = (facts.st_dev, facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size)
            if self._read is None or self._read[0] != stamp:
                self._read = (stamp, _parsed(self._path, file.readall()))
            return self._read[1]


def _without_waiting(path: str, flags: int) -> int:
    # It might be a pipe that nobody writes to.
    return os.open(path, flags | os.O_NONBLOCK)


def _refuse_foreign_link(path: Path) -> None:
    # Whoever owns a link chooses the file behind it, even if that is one of ours.
    facts = os.lstat(path)
    if stat.S_ISLNK(facts.st_mode) and facts.st_uid not in (os.getuid(), 0):
        raise SourceTrouble(
            f"{path} is a link that belongs to another user (uid {facts.st_uid}); it is not read"
        )
    folder = path.resolve().parent
    mode = folder.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise SourceTrouble(f"{path} lies in a folder where anyone can replace it", f"chmod o-w {folder}")


def _refuse(path: Path, facts: os.stat_result) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise SourceTrouble(f"{path} is not a file")
    if facts.st_size > _BYTES:
        raise SourceTrouble(f"{path} has more than {_BYTES:,} bytes")
    if facts.st_uid not in (os.getuid(), 0):
        raise SourceTrouble(f"{path} belongs to another user (uid {facts.st_uid}); it is not read")
    if facts.st_mode & 0o077:
        raise SourceTrouble(f"{path} can be read or written by others; it is not read", f"chmod 600 {path}")


def _parsed(path: Path, data: bytes) -> _Content:
    try:
        table = tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise SourceTrouble(f"{path} is not valid TOML{_place(error)}") from None
    teams = table.pop(_TEAMS, {})
    if not isinstance(teams, dict) or not all(isinstance(each, dict) for each in teams.values()):
        raise SourceTrouble(f"{path}: what belongs to one team stands in a table [{_TEAMS}.SLUG]")
    return _Content(
        _secrets(path, table, ""),
        {slug: _secrets(path, each, f"{_TEAMS}.{slug}.") for slug, each in teams.items()},
    )


def _place(error: Exception) -> str:
    # The place alone: what stands there may be a secret.
    found = re.search(r"\(at [^()]*\)$", str(error))
    return f" {found[0]}" if found else ""


def _secrets(path: Path, table: Mapping[str, Any], prefix: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for name, value in table.items():
        place = f"{path}: {prefix}{name[:80]}"
        if not _NAME.fullmatch(name):
            raise SourceTrouble(f"{place} is no name of a secret; use letters, digits and '_'")
        if not isinstance(value, str):
            raise SourceTrouble(f'{place} is not text; write {name[:80]} = "value"')
        if name.upper() in found:
            raise SourceTrouble(f"{place} is given twice; upper and lower case are the same")
        found[name.upper()] = value
    return found
