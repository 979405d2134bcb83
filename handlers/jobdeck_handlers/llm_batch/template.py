"""Prompt templates: `{column}` stands for the text of a column of the row, and for nothing else.

A name between braces is looked up as it stands, dots and underscores included: it is no expression, reaches no
attribute and runs no code. What comes out of a row is not looked at again, so that rows cannot name columns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_BRACES: Final = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]")


def columns_of(template: str) -> list[str]:
    """The columns it names, in order, each once. Raises ValueError for a brace that belongs to no name."""
    names: dict[str, None] = {}
    for found in _BRACES.finditer(template):
        if found[1] is not None:
            names[found[1]] = None
        elif len(found[0]) == 1:
            raise ValueError(
                f"has a brace at position {found.start() + 1} that belongs to no {{column}}; "
                "write {{ or }} for a brace itself"
            )
    return list(names)


def fill(template: str, values: Mapping[str, str]) -> str:
    """The prompt for one row."""
    return _BRACES.sub(lambda found: found[0][0] if found[1] is None else values[found[1]], template)
