"""What differs between two definitions. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobdeck.model import Change


def changes_between(
    before: Mapping[str, Any], after: Mapping[str, Any], under: str = ""
) -> tuple[Change, ...]:
    """Fields that differ, in the order of their names; what is inside an object is named like `params.url`."""
    found: list[Change] = []
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += changes_between(old, new, f"{under}{name}.")
        elif old != new or (name in before) != (name in after):
            found.append(Change(under + name, old, new))
    return tuple(found)
