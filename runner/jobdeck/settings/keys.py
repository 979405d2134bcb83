"""Which keys exist, and the nearest one to a key that does not."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from jobdeck.settings.model import Section, Settings

_OPEN_DEPTH = {"targets": 1, "plugin": 2}
"""Tables whose keys people choose, and how many levels of chosen names they need at least."""


@cache
def known_keys() -> Mapping[str, FieldInfo]:
    """Every key by its dotted path (`runner.lease`), sections left out."""
    return dict(_walk(Settings, ""))


def _walk(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
            yield from _walk(info.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, info


@cache
def sections() -> frozenset[str]:
    """The names of the tables with fixed keys."""
    return frozenset(path.partition(".")[0] for path in known_keys() if "." in path)


def unknown_in(table: Mapping[str, Any], prefix: str = "") -> str | None:
    """The dotted path of the first key of a parsed file that is no setting, else None."""
    for name, value in table.items():
        path = prefix + name
        if path in sections():
            if isinstance(value, Mapping) and (found := unknown_in(value, f"{path}.")):
                return found
        elif path not in known_keys():
            return path
    return None


def is_variable(parts: list[str]) -> bool:
    """Whether `JOBDECK_<PARTS joined by __>` can be a setting; parts in lower case."""
    head, rest = parts[0], parts[1:]
    if head in _OPEN_DEPTH:
        return (not rest or len(rest) >= _OPEN_DEPTH[head]) and all(rest)
    if head in sections():
        return not rest or ".".join(parts) in known_keys()
    return not rest and head in known_keys()


def nearest(path: str) -> str | None:
    """The known key most like `path`: by its whole path, else by its last part alone."""
    known = list(known_keys())
    if close := difflib.get_close_matches(path, known, n=1, cutoff=0.6):
        return close[0]
    leaves = {key.rpartition(".")[2]: key for key in reversed(known)}
    close = difflib.get_close_matches(path.rpartition(".")[2], list(leaves), n=1, cutoff=0.6)
    return leaves[close[0]] if close else None
