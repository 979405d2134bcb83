"""From the words of a command line to the params of a run."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jobdeck import jsonio, limits
from jobdeck.errors import ValidationError

_REF_DEPTH = 16


def read_params(source: str | None, pairs: Iterable[str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The params of `--params` with those of `-p` over them. Raises ValidationError."""
    return _from_source(source) | typed_values(split_pairs(pairs, "-p"), schema)


def _from_source(source: str | None) -> dict[str, Any]:
    """JSON, `@file` or `-` for stdin; never read further than a byte over the limit."""
    if source is None:
        return {}
    value = jsonio.loads(read_source(source, "params"), what="params", limit=limits.PARAMS_BYTES)
    if not isinstance(value, dict):
        raise ValidationError('params must be a JSON object, like {"key": "value"}', field="params")
    return value


def read_source(source: str, what: str) -> str | bytes:
    """What stands behind `@file` or `-` (stdin), else the text itself. Raises ValidationError."""
    if source == "-":
        return sys.stdin.buffer.read(limits.PARAMS_BYTES + 1)
    if not source.startswith("@"):
        return source
    path = Path(source[1:])
    try:
        with path.open("rb") as file:
            return file.read(limits.PARAMS_BYTES + 1)
    except OSError as error:
        raise ValidationError(f"{what} file {path} cannot be read: {error.strerror}", field=what) from None


def split_pairs(pairs: Iterable[str], option: str) -> dict[str, str]:
    """`key=value` words. Raises ValidationError for one without a key or '=', and for a key given twice."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise ValidationError(f"{option} takes key=value, not {pair[:60]!r}", field=option.lstrip("-"))
        if key in found:
            raise ValidationError(f"{option} names {key[:60]!r} twice", field=option.lstrip("-"))
        found[key] = value
    return found


def typed_values(pairs: Mapping[str, str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `-p`, each as the schema of the params wants it."""
    properties = schema.get("properties", {})
    return {key: typed_value(text, properties.get(key, {}), schema) for key, text in pairs.items()}


def typed_value(text: str, schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """`text` stays text where the schema allows text and nothing that text could be taken for.

    Else it is what it says as JSON, if it is a JSON number, true, false, null, object or list.
    """
    allowed = schema_types(schema, root)
    if allowed <= {"string"} and allowed:
        return text
    if allowed == {"string", "null"}:
        return None if text == "null" else text
    try:
        value = json.loads(text, parse_constant=_not_json)
    except (ValueError, RecursionError):
        return text
    # Quotes that survived the shell were meant: they are part of the text.
    return text if isinstance(value, str) else value


def schema_types(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int = 0) -> frozenset[str]:
    """The JSON types a schema allows; empty where it does not say."""
    if depth > _REF_DEPTH:
        return frozenset()
    found: set[str] = set()
    stated = schema.get("type")
    found.update([stated] if isinstance(stated, str) else stated or [])
    constants = [schema["const"]] if "const" in schema else []
    found.update(_json_type(value) for value in [*schema.get("enum", []), *constants])
    for part in _parts(schema, root):
        found |= schema_types(part, root, depth + 1)
    return frozenset(found)


def _parts(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    for word in ("anyOf", "oneOf", "allOf"):
        yield from (part for part in schema.get(word, []) if isinstance(part, Mapping))
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        part = root.get("$defs", {}).get(reference.removeprefix("#/$defs/"))
        if isinstance(part, Mapping):
            yield part


def _json_type(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    names = {str: "string", int: "integer", float: "number", dict: "object", list: "array"}
    return names.get(type(value), "null")


def _not_json(name: str) -> Any:
    raise ValueError(name)
