"""Secret params: a field type whose value is never stored or shown in clear, and `secret://NAME` references.

A `Secret` field takes only a reference. It is what is stored; the worker resolves it, after validation, from the
environment variable `JOBDECK_SECRET_<NAME>` of the worker's process.
"""

from __future__ import annotations

import base64
import json
import os
import re
import threading
from typing import Any, Final
from urllib.parse import quote

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

SCHEME: Final = "secret://"
_PATTERN: Final = r"^secret://[A-Za-z][A-Za-z0-9_]{0,63}$"
_REFERENCE = re.compile(_PATTERN)
# Shorter lines and encodings are words that stand in other places too.
_LINE_MIN: Final = 8
_MASK: Final = "********"


class Secret:
    """A param field that holds a reference; `reveal()` gives the value, inside the worker only."""

    __slots__ = ("_reference",)

    def __init__(self, reference: str) -> None:
        if not isinstance(reference, str) or not _REFERENCE.fullmatch(reference):
            raise ValueError(
                f"a secret is given as {SCHEME}NAME (set as JOBDECK_SECRET_NAME where the worker runs), never in clear"
            )
        self._reference = reference

    @property
    def reference(self) -> str:
        """What is stored: `secret://NAME`."""
        return self._reference

    def reveal(self) -> str:
        """The value. Raises LookupError naming the variable that is not set."""
        return resolve(self._reference)

    def __repr__(self) -> str:
        return f"Secret({self._reference!r})"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._reference == self._reference

    def __hash__(self) -> int:
        return hash(self._reference)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        # One plain function: a union of text and instance would explain every refusal twice, in its own words.
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls(value),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda value: value.reference),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "format": "secret", "pattern": _PATTERN}


def variable_of(reference: str) -> str:
    """The environment variable that holds it."""
    return f"JOBDECK_SECRET_{reference.removeprefix(SCHEME).upper()}"


def resolve(reference: str) -> str:
    """The value behind `secret://NAME`. Raises LookupError naming the variable that is not set."""
    variable = variable_of(reference)
    value = os.environ.get(variable)
    if value is None:
        raise LookupError(f"{variable} is not set where this worker runs")
    remember(value)
    return value


def remember(value: str) -> None:
    """From now on mask this value, its long lines (a key is often logged line by line) and its usual encodings."""
    global _revealed
    forms = {value, *(line for line in value.splitlines() if len(line) >= _LINE_MIN)}
    forms |= {form for each in tuple(forms) for form in _encodings(each)}
    with _lock:
        # Longest first: a secret that begins like another must not be left half in sight.
        _revealed = tuple(sorted({*_revealed, *forms}, key=len, reverse=True))


def _encodings(value: str) -> set[str]:
    if len(value) < _LINE_MIN:
        return set()
    data = value.encode("utf-8", "surrogateescape")
    return {
        base64.b64encode(data).decode(),
        base64.urlsafe_b64encode(data).decode(),
        quote(data, safe=""),
        json.dumps(value)[1:-1],
    }


def redact(text: str) -> str:
    """`text` with every secret this process has revealed masked. Values under 4 characters stay: they hide nothing."""
    for value in _revealed:
        if len(value) >= 4 and value in text:
            text = text.replace(value, _MASK)
    return text


_lock = threading.Lock()
# Replaced as a whole: any thread may read it while another one reveals a secret.
_revealed: tuple[str, ...] = ()
