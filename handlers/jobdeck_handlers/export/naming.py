"""The name of the file, which a stranger may have chosen."""

from __future__ import annotations

import re
from datetime import date
from typing import Final
from uuid import UUID

NAME_CHARS: Final = 200
"""Longest name in params, in characters."""
_NAME_BYTES: Final = 255
"""Longest name that file systems of Linux take."""
_ENDING_BYTES: Final = len(".jsonl.gz")
_FIELD: Final = re.compile(r"\{([^{}]*)\}")
_WIDEST: Final = {"date": "2000-01-01", "run": str(UUID(int=0))}


def checked_name(name: str) -> str:
    """The name, if it stays in its folder and can be one. Raises ValueError."""
    if not 1 <= len(name) <= NAME_CHARS:
        raise ValueError(f"has {len(name)} characters; a file name has 1 to {NAME_CHARS}")
    if "/" in name or "\\" in name or ".." in name:
        raise ValueError("is the name of a file, not a path: no '/', no '\\' and no '..'")
    if name.startswith("."):
        raise ValueError("begins with a dot; such names are kept for files that are being written")
    if not name.isprintable() or name != name.strip():
        raise ValueError("has characters that cannot be seen")
    if unknown := [field for field in _FIELD.findall(name) if field not in _WIDEST]:
        raise ValueError(f"has {{{unknown[0]}}}; only {{date}} and {{run}} are filled in")
    if any(char in _FIELD.sub("", name) for char in "{}"):
        raise ValueError("has a brace; only {date} and {run} are filled in")
    if len(_filled(name, _WIDEST).encode()) + _ENDING_BYTES > _NAME_BYTES:
        raise ValueError(f"is longer than a file's name may be: {_NAME_BYTES} bytes")
    return name


def file_name(name: str, ending: str, day: date, run_id: UUID) -> str:
    """The checked name, filled in and with its ending, which it may have already."""
    filled = _filled(name, {"date": day.isoformat(), "run": str(run_id)})
    return filled if filled.endswith(ending) else filled + ending


def _filled(name: str, values: dict[str, str]) -> str:
    return _FIELD.sub(lambda found: values[found[1]], name)
