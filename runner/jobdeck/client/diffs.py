"""What differs between two definitions. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jobdeck.model import Change


def _canonical(value: Any) -> str:
    # In Python 1, 1.0 and True are equal; in a definition they are not.
    return json.dumps(value, sort_keys=True)


def changes_between(
    before: Mapping[str, Any], after: Mapping[str, Any], under: str = ""
) -> tuple[Change, ...]:
    """Fields that differ, in the order of their names; what is inside an object is named like `params.url`."""
    found: list[Change] = []
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += changes_between(old, new, f"{under}{name}.")
        elif (name in before) != (name in after) or _canonical(old) != _canonical(new):
            found.append(Change(under + name, old, new))
    return tuple(found)
