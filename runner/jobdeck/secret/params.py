"""Params on their way in, where values take the place of references, and on their way out, where they may not stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobdeck.errors import ValidationError
from jobdeck.secret.names import SCHEME
from jobdeck.secret.redaction import reference_of, shows_value
from jobdeck.secret.reference import REFERENCE, Revealed, Secret, resolve


def filled(value: Any) -> Any:
    """JSON in which each text that is a reference, and nothing else, has become the value.

    A `Secret` field still takes such a value, and holds the reference. Raises SecretNotFound, SecretNotGranted.
    """
    if isinstance(value, str):
        return Revealed(resolve(value), value) if REFERENCE.fullmatch(value) else value
    if isinstance(value, dict):
        return {key: filled(item) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item) for item in value]
    return value


def withheld(value: Any, *, what: str) -> Any:
    """What a run hands on to be stored: each value that came from a reference is the reference again.

    Raises ValidationError where a value stands inside of a longer text, from which nobody could make it again.
    """
    if isinstance(value, Secret):
        return value.reference
    if isinstance(value, str):
        if reference := reference_of(value):
            return reference
        if shows_value(value):
            raise ValidationError(f"{what} hold a secret in clear; hand on {SCHEME}NAME instead", field=what)
        return value
    if isinstance(value, Mapping):
        return {key: withheld(item, what=what) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(withheld(item, what=what) for item in value)
    return value
