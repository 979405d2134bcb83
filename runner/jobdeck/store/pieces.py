"""Long lists of ids, cut: PostgreSQL's protocol has room for 32,767 values in one statement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final
from uuid import UUID

_AT_ONCE: Final = 500


def pieces(ids: Iterable[UUID]) -> Iterator[list[UUID]]:
    """The ids in lists that are short enough for one statement."""
    every = list(ids)
    for start in range(0, len(every), _AT_ONCE):
        yield every[start : start + _AT_ONCE]
