"""Where a worker finds secrets: its environment, a file, providers of installed packages."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Final, Protocol

from jobdeck.limits import REFERENCE_NAME_PATTERN
from jobdeck.secret.errors import SourceTrouble
from jobdeck.secret.reference import VARIABLE_PREFIX, variable_of

GROUP: Final = "jobdeck.secrets"
"""Entry points: a callable `get(team, name) -> str | None`, asked with the slug of a team and an upper-case name."""
_VARIABLE: Final = re.compile(VARIABLE_PREFIX + REFERENCE_NAME_PATTERN)


class Source(Protocol):
    """Raises SourceTrouble where it cannot be asked."""

    label: str
    """What it is called in messages and lists."""

    def shared(self, name: str) -> str | None:
        """The value for teams that the secret is granted to."""

    def own(self, team: str, name: str) -> str | None:
        """The value that is this team's alone; it needs no grant."""

    def names(self) -> Iterable[tuple[str, str | None]]:
        """What it holds, with the team where it is one's own; nothing where that cannot be known."""

    def check(self) -> None:
        """Whether it can be asked."""


class Environment:
    """`JOBDECK_SECRET_NAME`."""

    label = "environment"

    def shared(self, name: str) -> str | None:
        return os.environ.get(variable_of(name))

    def own(self, team: str, name: str) -> str | None:
        return None

    def names(self) -> Iterator[tuple[str, str | None]]:
        for variable in sorted(os.environ):
            if _VARIABLE.fullmatch(variable) and variable.isupper():
                yield variable.removeprefix(VARIABLE_PREFIX), None

    def check(self) -> None:
        """Nothing can be wrong with it."""


class Provider:
    """A callable of an installed package; what it gives to a team is that team's."""

    def __init__(self, point: EntryPoint) -> None:
        self.label = f"provider {point.name}"
        self._get, self._trouble = _loaded(point)

    def shared(self, name: str) -> str | None:
        return None

    def own(self, team: str, name: str) -> str | None:
        self.check()
        try:
            value = self._get(team, name)
        except Exception as error:
            raise SourceTrouble(f"{self.label}: {type(error).__name__}: {error}") from error
        if value is not None and not isinstance(value, str):
            raise SourceTrouble(f"{self.label} gave a {type(value).__name__} instead of text")
        return value

    def names(self) -> Iterator[tuple[str, str | None]]:
        yield from ()

    def check(self) -> None:
        if self._trouble is not None:
            raise SourceTrouble(f"{self.label} cannot be loaded: {self._trouble}")


def providers() -> list[Provider]:
    """Those of installed packages, by name. One that cannot be loaded says so when it is asked."""
    return [Provider(point) for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)]


def _loaded(point: EntryPoint) -> tuple[Callable[[str, str], object], str | None]:
    try:
        found = point.load()
        if not callable(found):
            raise TypeError(f"{point.value} is a {type(found).__name__}, not a callable get(team, name)")
    except (Exception, SystemExit) as error:
        # Whatever a stranger's module raises on import must not take the other sources down.
        return _nothing, f"{type(error).__name__}: {error}".splitlines()[0][:300]
    return found, None


def _nothing(_team: str, _name: str) -> None:
    return None
