"""JSON Lines: one object a line, in UTF-8."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from jobdeck_handlers.export.rows import Column, Kind, Row
from jobdeck_handlers.export.values import TEXTS
from jobdeck_handlers.export.writers import Plain, Writer

_quoted = json.JSONEncoder(ensure_ascii=False).encode


def _number(value: float) -> str:
    # JSON has no word for the others.
    return repr(value) if math.isfinite(value) else f'"{TEXTS[float](value)}"'


_VALUES: Final[dict[type, Callable[[Any], str]]] = {
    type(None): lambda _: "null",
    bool: TEXTS[bool],
    int: TEXTS[int],
    float: _number,
    str: _quoted,
}


def _value(value: Any) -> str:
    encode = _VALUES.get(type(value))
    return encode(value) if encode else f'"{TEXTS[type(value)](value)}"'


def _nested(value: Any) -> str:
    # It stands on its own line: a line break is never part of a JSON text, only white space between its parts.
    return "null" if value is None else str(value).replace("\n", " ").replace("\r", " ")


class JsonLinesWriter(Writer):
    """Decimals and bytes (base64) are texts: readers make binary floats of numbers."""

    def __init__(self, out: Plain, columns: Sequence[Column]) -> None:
        self._out = out
        self._fields = [
            (f"{_quoted(column.name)}:", _nested if column.kind is Kind.JSON else _value)
            for column in columns
        ]

    def write(self, rows: Sequence[Row]) -> int:
        data = "".join(map(self._line, rows)).encode()
        self._out.write(data)
        return len(data)

    def finish(self) -> None:
        self._out.finish()

    def _line(self, row: Row) -> str:
        fields = (name + encode(value) for (name, encode), value in zip(self._fields, row, strict=True))
        return "{" + ",".join(fields) + "}\n"
