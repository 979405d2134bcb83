"""The form of a job type, from the JSON schema of its params: fields, and their text to values. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from jobdeck import limits
from jobdeck.durations import parse_duration
from jobdeck.errors import ValidationError
from jobdeck.text import clean

UNSET: Final = ""
"""The text of a field, or the choice, that leaves the param out."""
_DEPTH_MAX: Final = 20


class Kind(StrEnum):
    """How a field is edited and read."""

    TEXT = "text"
    INTEGER = "whole number"
    NUMBER = "number"
    CHOICE = "choice"
    JSON = "JSON"
    DURATION = "duration"


@dataclass(frozen=True, slots=True)
class Field:
    """One line of a form. All texts are clean."""

    name: str
    kind: Kind
    required: bool = False
    default: str = UNSET
    """The job type's own value, as text."""
    help: str = ""
    choices: Mapping[str, Any] = field(default_factory=dict)
    """Text of each choice and the value it stands for."""
    given: str | None = None
    """What the field holds at first instead of the default."""

    @property
    def initial(self) -> str:
        """What the field holds at first."""
        return self.default if self.given is None else self.given

    @property
    def note(self) -> str:
        """The words under the field: its kind where that is not plain text, and what it is for."""
        kind = "" if self.kind in (Kind.TEXT, Kind.CHOICE) else str(self.kind)
        return " - ".join(part for part in (kind, self.help) if part)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a filled-in form comes to: values, or errors by the name of the field."""

    values: dict[str, Any]
    errors: dict[str, str]


OPTIONS: Final = (
    Field("queue", Kind.TEXT, help=f"lane of runs; left empty: {limits.DEFAULT_QUEUE}"),
    Field("priority", Kind.INTEGER, help=f"{limits.PRIORITY_MIN}-{limits.PRIORITY_MAX}, 10 first"),
    Field("delay", Kind.DURATION, help="start so much later: 30s, 5m, 1h"),
    Field("name", Kind.TEXT, help="what the list shows beside the type"),
)
"""What every run may be given beside its params; the names are those of the command line."""


def fields_of(schema: Mapping[str, Any], given: Mapping[str, Any] | None = None) -> list[Field]:
    """The fields of a params schema, required ones first; `given` values stand in place of the defaults."""
    required = {name for name in schema.get("required", ()) if isinstance(name, str)}
    properties = schema.get("properties")
    items = properties.items() if isinstance(properties, Mapping) else ()
    fields = [_field(str(name), part, name in required, schema, given or {}) for name, part in items]
    return sorted(fields, key=lambda item: not item.required)


def _field(name: str, part: Any, required: bool, root: Mapping[str, Any], given: Mapping[str, Any]) -> Field:
    shape = _resolved(part, root)
    choices = _choices(shape, required)
    kind = Kind.CHOICE if choices else _kind(shape)

    def text_of(value: Any) -> str:
        return _choice_text(value, choices) if kind is Kind.CHOICE else _text(value, kind)

    title = shape.get("description") or (part.get("description") if isinstance(part, Mapping) else "")
    default = text_of(_default(part, shape))
    given_text = text_of(given[name]) if name in given else None
    return Field(name, kind, required, default, _help(title, shape), choices, given_text)


def _resolved(part: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part behind references and behind `or null`; empty where it is none of what a form knows."""
    for _ in range(_DEPTH_MAX):
        if not isinstance(part, Mapping):
            return {}
        if isinstance(part.get("$ref"), str):
            part = _looked_up(part["$ref"], root)
            continue
        options = part.get("anyOf") or part.get("oneOf")
        if isinstance(options, Sequence) and len(real := [o for o in options if not _is_null(o)]) == 1:
            part = {**{k: v for k, v in part.items() if k not in ("anyOf", "oneOf")}, **_mapping(real[0])}
            continue
        return part
    return {}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _looked_up(reference: str, root: Mapping[str, Any]) -> Any:
    if not reference.startswith("#/"):
        return {}
    part: Any = root
    for step in reference[2:].split("/"):
        part = _mapping(part).get(step.replace("~1", "/").replace("~0", "~"))
    return part


def _is_null(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "null"


def _choices(shape: Mapping[str, Any], required: bool) -> dict[str, Any]:
    if shape.get("type") == "boolean":
        values: Sequence[Any] = (False, True)
    elif isinstance(shape.get("enum"), Sequence):
        values = shape["enum"]
    elif "const" in shape:
        values = (shape["const"],)
    else:
        return {}
    shown = {_text(value, Kind.CHOICE): value for value in values}
    return shown if required else {UNSET: None, **shown}


def _kind(shape: Mapping[str, Any]) -> Kind:
    plain = {"string": Kind.TEXT, "integer": Kind.INTEGER, "number": Kind.NUMBER}
    kind = shape.get("type")
    return plain.get(kind, Kind.JSON) if isinstance(kind, str) else Kind.JSON


def _default(part: Any, shape: Mapping[str, Any]) -> Any:
    return part["default"] if isinstance(part, Mapping) and "default" in part else shape.get("default")


def _text(value: Any, kind: Kind) -> str:
    if value is None:
        return UNSET
    if isinstance(value, str) and kind is not Kind.JSON:
        return clean(value, limits.PARAMS_BYTES)
    return clean(json.dumps(value, ensure_ascii=False, default=str), limits.PARAMS_BYTES)


def _choice_text(value: Any, choices: Mapping[str, Any]) -> str:
    if value is not None:
        for text, choice in choices.items():
            if choice == value and isinstance(choice, bool) == isinstance(value, bool):
                return text
    return next(iter(choices))


def _help(description: Any, shape: Mapping[str, Any]) -> str:
    said = clean(description, 300) if isinstance(description, str) else ""
    bounds = [
        f"{word} {shape[key]}"
        for key, word in (("minimum", "at least"), ("maximum", "at most"), ("format", "as"))
        if isinstance(shape.get(key), int | float | str)
    ]
    secret = ["secret://NAME, never in clear"] if shape.get("format") == "secret" else []
    return clean("; ".join(part for part in (said, *(secret or bounds)) if part))


def read_form(fields: Iterable[Field], texts: Mapping[str, str]) -> Reading:
    """The values of a form. A field that still holds its default is left out: the job type supplies it."""
    values: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for item in fields:
        text = texts.get(item.name, item.initial)
        if text.strip() == UNSET and item.kind is not Kind.CHOICE:
            if item.required:
                errors[item.name] = "is required"
            continue
        if text == item.default and not item.required:
            continue
        try:
            value = _value(item, text)
        except ValidationError as error:
            errors[item.name] = error.message
            continue
        if value is not None or item.required:
            values[item.name] = value
    return Reading(values, errors)


def _value(item: Field, text: str) -> Any:
    if item.kind is Kind.CHOICE:
        return item.choices[text]
    if item.kind is Kind.TEXT:
        return text
    if item.kind is Kind.DURATION:
        return parse_duration(text)
    if item.kind is Kind.JSON:
        return _json(text)
    return _number(text.strip(), item.kind)


def _number(text: str, kind: Kind) -> int | float:
    # No more digits than a form has use for: converting a huge number takes its time.
    whole, decimal = r"[+-]?\d{1,30}", r"[+-]?\d{1,30}(\.\d{1,30})?([eE][+-]?\d{1,3})?"
    if not re.fullmatch(whole if kind is Kind.INTEGER else decimal, text):
        raise ValidationError(f"{text[:40]!r} is not a {kind}")
    return int(text) if re.fullmatch(whole, text) else float(text)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        said = error.args[0] if error.args else "nested too deep"
        raise ValidationError(f"is not JSON: {clean(str(said), 100)}") from None


def refusals(message: str, names: Iterable[str]) -> dict[str, str]:
    """The part of a refusal that belongs to each field: `params of x: url: Field required; key.0: …`."""
    found: dict[str, str] = {}
    for name in names:
        match = re.search(rf"(?:^|; |: ){re.escape(name)}(?:\.[^:; ]+)*: ([^;]+)", message)
        if match:
            found[name] = match[1].strip()
    return found
