"""Params as they are given on the command line: `-p key=value`, `--params JSON|@file|-`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobdeck import jsonio
from jobdeck.errors import ValidationError
from jobdeck.limits import PARAMS_BYTES


def read_params(source: str | None, pairs: Sequence[str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The params; pairs go over the JSON. Raises ValidationError for what cannot be read, before it is parsed."""
    params = {} if source is None else _parsed(_text(source))
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ValidationError(f"-p {pair[:60]!r} is not of the form key=value", field="params")
        params[name] = _value(value, schema.get("properties", {}).get(name, {}))
    return params


def _text(source: str) -> str | bytes:
    if source == "-":
        return _capped(sys.stdin.buffer.read(PARAMS_BYTES + 1))
    if source.startswith("@"):
        try:
            with Path(source[1:]).open("rb") as file:
                return _capped(file.read(PARAMS_BYTES + 1))
        except OSError as error:
            raise ValidationError(f"{source[1:]} cannot be read: {error.strerror}", field="params") from None
    return source


def _capped(data: bytes) -> bytes:
    # No more than a byte over the limit is ever read: what comes may be endless.
    if len(data) > PARAMS_BYTES:
        raise ValidationError(f"params have more than {PARAMS_BYTES:,} bytes", field="params")
    return data


def _parsed(text: str | bytes) -> dict[str, Any]:
    value = jsonio.loads(text, what="params", limit=PARAMS_BYTES)
    if not isinstance(value, dict):
        raise ValidationError('params are a JSON object, like {"key": "value"}', field="params")
    return value


def _value(text: str, schema: Mapping[str, Any]) -> Any:
    """JSON where it is JSON and the schema does not ask for text; else the text itself."""
    if _wants_text(schema):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _wants_text(schema: Mapping[str, Any]) -> bool:
    kinds = [schema.get("type"), *(part.get("type") for part in schema.get("anyOf", ()))]
    named = {kind for kind in kinds if kind and kind != "null"}
    return named == {"string"}
