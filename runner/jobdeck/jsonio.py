"""JSON at the border: what both databases and every reader can hold, and nothing else (reliability S11)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from jobdeck.errors import ValidationError
from jobdeck.limits import JSON_DEPTH, JSON_NODES

_INT_MAX = 2**53
# What json itself does not know and `check` has let through is a mapping that is no dict.
_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=dict)


def loads(text: str | bytes, *, what: str, limit: int) -> Any:
    """Parse strictly: at most `limit` bytes, no duplicate keys, no NaN, bounded depth. Raises ValidationError."""
    size = len(text) if isinstance(text, bytes) else len(text.encode("utf-8", "surrogatepass"))
    if size > limit:
        raise ValidationError(f"{what} has {size:,} bytes; at most {limit:,} are allowed", field=what)
    try:
        value = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except ValidationError:
        raise
    except RecursionError:
        raise ValidationError(f"{what} is nested deeper than {JSON_DEPTH} levels", field=what) from None
    except ValueError as error:
        raise ValidationError(f"{what} is not valid JSON: {error}", field=what) from None
    check(value, what=what)
    return value


def dumps(value: Any, *, what: str, limit: int) -> str:
    """Compact JSON text of at most `limit` bytes. Raises ValidationError saying what is wrong and where."""
    check(value, what=what)
    text = _COMPACT.encode(value)
    size = len(text.encode())
    if size > limit:
        raise ValidationError(f"{what} has {size:,} bytes of JSON; at most {limit:,} are allowed", field=what)
    return text


def check(value: Any, *, what: str) -> None:
    """Refuse what one of the databases could not store or would change. Raises ValidationError."""
    nodes = 0
    stack: list[tuple[Any, int]] = [(value, 1)]
    while stack:
        item, depth = stack.pop()
        nodes += 1
        if nodes > JSON_NODES:
            raise ValidationError(f"{what} has more than {JSON_NODES:,} values", field=what)
        if depth > JSON_DEPTH:
            raise ValidationError(f"{what} is nested deeper than {JSON_DEPTH} levels", field=what)
        if isinstance(item, Mapping):
            for key, child in item.items():
                if not isinstance(key, str):
                    raise ValidationError(f"{what} has a key that is not text: {key!r:.40}", field=what)
                _check_text(key, what)
                stack.append((child, depth + 1))
        elif isinstance(item, list | tuple):
            stack.extend((child, depth + 1) for child in item)
        else:
            _check_scalar(item, what)


def _check_scalar(item: Any, what: str) -> None:
    if isinstance(item, str):
        _check_text(item, what)
    elif item is None or isinstance(item, bool):
        return
    elif isinstance(item, int):
        if abs(item) > _INT_MAX:
            raise ValidationError(f"{what} has an integer beyond 2^53; write it as text", field=what)
    elif isinstance(item, float):
        if not math.isfinite(item):
            raise ValidationError(f"{what} has {item}, which JSON cannot hold", field=what)
    else:
        raise ValidationError(f"{what} has a {type(item).__name__}, which JSON cannot hold", field=what)


def _check_text(text: str, what: str) -> None:
    if text.isascii() and "\x00" not in text:
        return
    if "\x00" in text:
        raise ValidationError(f"{what} has a NUL character, which PostgreSQL cannot store", field=what)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValidationError(f"{what} has half a surrogate pair, which is not text", field=what) from None


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValidationError("the JSON names a key twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValidationError(f"the JSON has {name}, which is not JSON")
