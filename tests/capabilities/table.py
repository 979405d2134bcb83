"""`docs/capabilities.md` as rows: what each promises, the commands that show it, the tests that prove it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).parents[2] / "docs" / "capabilities.md"
_ROW = re.compile(r"^\| ([A-Z]\d+) \|([^|]*)\|([^|]*)\|([^|]*)\|$", re.MULTILINE)
_COMMAND = re.compile(r"`(jobdeck [^`]*)`(?: exit (\d+))?")
_NAME = re.compile(r"`((?:client|ctx)\.[\w.]+)`")
_TEST = re.compile(r"`(tests/[\w/]+\.py::test_\w+)`")


@dataclass(frozen=True, slots=True)
class Command:
    """A command line with words for things of the seeded database, and the exit code it ends with."""

    line: str
    code: int


@dataclass(frozen=True, slots=True)
class Row:
    """One capability."""

    key: str
    promise: str
    shown: str
    proven: str

    @property
    def commands(self) -> list[Command]:
        return [Command(line, int(code or 0)) for line, code in _COMMAND.findall(self.shown)]

    @property
    def names(self) -> list[str]:
        """What shows it in Python: attributes of the client or of a handler's context."""
        return _NAME.findall(self.shown)

    @property
    def tests(self) -> list[str]:
        """`file::function`, each."""
        return _TEST.findall(self.proven)

    @property
    def over_http_only(self) -> bool:
        return self.shown.strip() == "over HTTP only"

    @property
    def is_empty(self) -> bool:
        """Whether it says neither what shows and proves it nor why there is nothing."""
        seen = bool(self.commands or self.names)
        return not (self.over_http_only or (seen and self.tests))


def read() -> list[Row]:
    """The rows of the page, in its order."""
    return [Row(*cells) for cells in _ROW.findall(PAGE.read_text())]


def named_tests() -> list[str]:
    """All tests that the page names, each once."""
    return list(dict.fromkeys(test for row in read() for test in row.tests))
