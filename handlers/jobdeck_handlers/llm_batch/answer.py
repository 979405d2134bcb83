"""What comes back for one row, read strictly: a body is a stranger's, and so is the text of the model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from uuid import UUID

from jobdeck import Discard
from jobdeck_handlers.llm_batch.params import JsonSchema, ResponseFormat

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

Key: TypeAlias = int | str | UUID

ERROR_CHARS: Final = 300
"""Longest reason that is kept for a row."""
_NAME_CHARS: Final = 256
# More than any model reads or writes, and a sum over millions of rows still has 64 bits.
_TOKENS_MAX: Final = 2**40


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the endpoint counts them; None where it does not say."""

    prompt: int | None = None
    completion: int | None = None
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One row's answer: either `text` or `error`."""

    key: Key
    text: str | None = None
    error: str | None = None
    finish_reason: str | None = None
    model: str | None = None
    """The model that answered, as the endpoint names it."""
    usage: Usage = Usage()
    doubtful: bool = False
    """An error that may be the endpoint's and not the row's: it did not answer, again and again."""


Misfit: TypeAlias = Callable[[str], str | None]
"""Says why a text does not have the form that was asked for; None where it does."""


def read(key: Key, body: Any, misfit: Misfit) -> Answer:
    """The answer in a body."""
    if not isinstance(body, Mapping):
        return Answer(key, error="the answer is no JSON object")
    usage = _usage(body.get("usage"))
    model = _name(body.get("model"))
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, Mapping):
        return Answer(key, error=_explained("the answer has no choices", body), model=model, usage=usage)
    finish = _name(choice.get("finish_reason"))
    message = choice.get("message")
    text = message.get("content") if isinstance(message, Mapping) else None
    error = misfit(text) if isinstance(text, str) else _no_text(message, finish)
    return Answer(key, None if error else text, error, finish, model, usage)


def misfit_of(response_format: ResponseFormat | None) -> Misfit:
    """The check that belongs to a response format."""
    if response_format is None:
        return lambda _: None
    if isinstance(response_format, JsonSchema):
        validator = _validator(response_format.json_schema.json_schema)
        return lambda text: _json_misfit(text, lambda value: _schema_misfit(validator, value))
    return lambda text: _json_misfit(
        text, lambda value: None if isinstance(value, dict) else "the answer is JSON, but no object"
    )


def _validator(schema: dict[str, Any]) -> Draft202012Validator:
    from jsonschema import Draft202012Validator
    from referencing import Registry

    # Without a registry of its own it would fetch what a reference names.
    return Draft202012Validator(schema, registry=Registry())


def _json_misfit(text: str, misfit: Callable[[Any], str | None]) -> str | None:
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        return "the answer is JSON that is nested too deeply"
    except ValueError as error:
        return f"the answer is not JSON: {error!s:.100}"
    return misfit(value)


def _schema_misfit(validator: Draft202012Validator, value: Any) -> str | None:
    from referencing.exceptions import Unresolvable

    try:
        error = next(validator.iter_errors(value), None)
    except RecursionError:
        return "the answer is nested too deeply for the schema"
    except Unresolvable as missing:
        raise Discard(
            f"the schema of response_format refers to {missing.ref[:60]!r}, which it does not have"
        ) from None
    if error is None:
        return None
    return f"the answer does not fit the schema: {error.json_path[:60]}: {error.message[:160]}"


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _usage(value: Any) -> Usage:
    if not isinstance(value, Mapping):
        return Usage()
    return Usage(*(_count(value.get(f"{each}_tokens")) for each in ("prompt", "completion", "total")))


def _count(value: Any) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value <= _TOKENS_MAX else None


def _name(value: Any) -> str | None:
    return value[:_NAME_CHARS] if isinstance(value, str) else None


def _no_text(message: Any, finish: str | None) -> str:
    refusal = message.get("refusal") if isinstance(message, Mapping) else None
    if isinstance(refusal, str) and refusal:
        return f"the model refused: {refusal}"
    return "the answer has no text" + (f" (finish_reason {finish})" if finish else "")


def _explained(problem: str, body: Mapping[str, Any]) -> str:
    # Some gateways answer 200 and put the error of the model behind them into the body.
    error = body.get("error")
    message = error.get("message") if isinstance(error, Mapping) else error
    return f"{problem}: {message}" if isinstance(message, str) else problem
