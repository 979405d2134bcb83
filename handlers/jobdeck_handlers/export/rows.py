"""What a query gives: columns with their kinds, and rows a batch at a time."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final, TypeAlias

from jobdeck import Discard
from jobdeck_handlers.export.params import Bound

COLUMNS: Final = 1_000
"""Most columns of a file."""
NAME_CHARS: Final = 256
_NAMES_BYTES: Final = 128 * 1024
"""All names together, as JSON: they stand in the run's result, which has 256 KiB."""

Row: TypeAlias = Sequence[Any]
"""None, bool, int, float, Decimal, bytes or str; what a str means is told by the kind of its column."""


class Kind(StrEnum):
    """What the values of a column are, beside None."""

    BOOLEAN = "boolean"
    INT16 = "int16"
    INT32 = "int32"
    INT64 = "int64"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    DECIMAL = "decimal"
    TEXT = "text"
    BYTES = "bytes"
    DATE = "date"
    """A str in ISO 8601, like the next three; a database may know values that ISO 8601 does not."""
    TIME = "time"
    TIMESTAMP = "timestamp"
    TIMESTAMPTZ = "timestamptz"
    """In UTC."""
    JSON = "json"
    """A str of JSON."""
    MIXED = "mixed"
    """Each value may be of another type."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the result; `type` is what the database calls its type."""

    name: str
    type: str
    kind: Kind
    decimal: tuple[int, int] | None = None
    """Of a DECIMAL that was measured: precision and scale of a type of Arrow. None where none holds every value."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked."""

    text: str
    bind: dict[str, Bound]
    timeout: timedelta


class Rows(ABC):
    """A query at a database, in one transaction that reads: whatever is asked sees the same data."""

    @property
    @abstractmethod
    def columns(self) -> Sequence[Column]:
        """Known after `start`."""

    @abstractmethod
    async def count(self) -> int:
        """How many rows there are. Runs the query."""

    @abstractmethod
    async def measure(self) -> None:
        """Find out what every column holds where its type does not say so. Runs the query, if it has to."""

    @abstractmethod
    async def start(self) -> None:
        """Begin to read."""

    @abstractmethod
    async def fetch(self, count: int) -> Sequence[Row]:
        """The next rows, at most `count`; none at the end."""


def check_columns(columns: Sequence[Column]) -> None:
    """Raise Discard for names that no file should have."""
    names = [column.name for column in columns]
    if len(names) > COLUMNS:
        raise Discard(f"the query gives {len(names):,} columns; at most {COLUMNS:,} are written")
    if twice := next((name for at, name in enumerate(names) if name in names[:at]), None):
        raise Discard(f"two columns are called {twice[:NAME_CHARS]!r}; name them apart with AS")
    long = next((at for at, name in enumerate(names, 1) if len(name) > NAME_CHARS), None)
    if long is not None or len(json.dumps(names)) > _NAMES_BYTES:
        raise Discard(f"column {long or 1} has a name of more than {NAME_CHARS} characters; name it with AS")


class Pace:
    """How many rows to fetch at a time: as many as make a batch of about a MiB.

    So memory stays bounded where rows are large, and there are few round trips where they are small.
    """

    _BYTES: Final = 1024 * 1024
    _ROWS_MAX: Final = 1_000
    _GROWTH: Final = 4

    def __init__(self) -> None:
        self.rows = 16

    def took(self, rows: int, size: int) -> None:
        """So many rows had so many bytes."""
        fitting = rows * self._BYTES // max(size, 1)
        self.rows = max(1, min(fitting, self.rows * self._GROWTH, self._ROWS_MAX))
