"""Records in a JSON body: where they are, which of them can be stored, and how new they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from jobdeck import Discard, limits

MISSING: Final = object()
"""What `at_path` gives where nothing is."""
NOT_AN_OBJECT: Final = "value"
"""Name of the field that a record gets which is a bare value instead of an object."""

Record: TypeAlias = Mapping[str, Any]
Mark: TypeAlias = str | int | float
"""How new a record is: a time as text, or a number."""


@dataclass(slots=True)
class Sorted:
    """The records of a page that can be stored, and why the others cannot."""

    good: list[Record] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def at_path(value: Any, path: str) -> Any:
    """What lies at a dotted path (`data.items`, `pages.0.next`) in a JSON value; MISSING where nothing does."""
    for part in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(part, MISSING)
        elif isinstance(value, list) and part.isascii() and part.isdigit() and int(part[:9]) < len(value):
            value = value[int(part)]
        else:
            return MISSING
    return value


def records_in(body: Any, path: str | None) -> list[Any]:
    """The list of records. Raises Discard that says what is there instead."""
    if path is None:
        if isinstance(body, list):
            return body
        raise Discard(f"the answer is {_kind(body)}, not a list; name where the list is as `records`")
    found = at_path(body, path)
    if isinstance(found, list):
        return found
    if found is None:
        return []
    what = "nothing" if found is MISSING else _kind(found)
    raise Discard(f"there is {what} at {path} of the answer, not a list; the answer is {_kind(body)}")


def total_in(body: Any, headers: Mapping[str, str], name: str) -> int | None:
    """The total that the source states, in the body at a path or in a header; None where it states none."""
    stated = at_path(body, name)
    if stated is MISSING:
        stated = headers.get(name)
    if isinstance(stated, str) and stated.strip().isascii() and stated.strip().isdigit():
        stated = int(stated.strip()[:18])
    return stated if isinstance(stated, int) and not isinstance(stated, bool) and stated >= 0 else None


def sort_out(items: Sequence[Any], key: Sequence[str]) -> Sorted:
    """Part the records that can be stored from those that have no key or hold what no database takes."""
    result = Sorted()
    for item in items:
        record = item if isinstance(item, Mapping) else {NOT_AN_OBJECT: item}
        problem = _problem(record, key)
        if problem is None:
            result.good.append(record)
        else:
            result.refused.append(problem)
    return result


def newest(seen: Mark | None, records: Sequence[Record], path: str) -> Mark | None:
    """The newest mark among `seen` and the records. Times are compared as times, whatever their zone."""
    for record in records:
        mark = at_path(record, path)
        if isinstance(mark, bool) or not isinstance(mark, str | int | float):
            continue
        if seen is None or _newer(mark, seen):
            seen = mark
    return seen


def _problem(record: Record, key: Sequence[str]) -> str | None:
    for name in key:
        value = record.get(name)
        if value is None or value == "":
            return f"no key: {name[:60]} is missing"
        if isinstance(value, dict | list):
            return f"no key: {name[:60]} is not a plain value"
    if all(value is None for value in record.values()):
        return "it holds nothing"
    for name, value in record.items():
        problem = _unstorable(value, 1)
        if problem is not None:
            return f"{name[:60]} {problem}"
    return None


def _unstorable(value: Any, depth: int) -> str | None:
    if isinstance(value, str):
        return _unstorable_text(value)
    if isinstance(value, float):
        return None if math.isfinite(value) else "is not a finite number"
    if not isinstance(value, dict | list):
        return None
    if depth > limits.JSON_DEPTH:
        return f"is nested deeper than {limits.JSON_DEPTH} levels"
    parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value
    return next((problem for part in parts if (problem := _unstorable(part, depth + 1))), None)


def _unstorable_text(text: str) -> str | None:
    if "\x00" in text:
        return "has a NUL character"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "has half a surrogate pair, which is not text"
    return None


def _newer(mark: Mark, seen: Mark) -> bool:
    if isinstance(mark, str) and isinstance(seen, str):
        times = _time(mark), _time(seen)
        return times[0] > times[1] if times[0] and times[1] else mark > seen
    # A source that mixes numbers and text gives no order; the first kind it used stays.
    return not isinstance(mark, str) and not isinstance(seen, str) and mark > seen


def _time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        names = ", ".join(str(name)[:40] for name in list(value)[:8])
        return f"an object with {names}" if names else "an empty object"
    return {list: "a list", str: "text", type(None): "null", bool: "true or false"}.get(
        type(value), "a number"
    )
