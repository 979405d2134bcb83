"""`secret://NAME`: the reference that is stored, the field type that takes only it, and where its value comes from."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final, TypeAlias, TypeGuard

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from jobdeck.limits import REFERENCE_NAME_PATTERN
from jobdeck.secret.errors import SecretNotFound
from jobdeck.secret.names import SCHEME
from jobdeck.secret.redaction import remember

VARIABLE_PREFIX: Final = "JOBDECK_SECRET_"
_PATTERN: Final = rf"^{SCHEME}{REFERENCE_NAME_PATTERN}$"
REFERENCE: Final = re.compile(SCHEME + REFERENCE_NAME_PATTERN)

Lookup: TypeAlias = Callable[[str], str]
"""The value of a name in upper case. Raises SecretNotFound, SecretNotGranted."""


def variable_of(name: str) -> str:
    """The environment variable that may hold it."""
    return VARIABLE_PREFIX + name.upper()


def from_environment(name: str) -> str:
    """The lookup where no worker has set another one: in tests of handlers, say."""
    value = os.environ.get(variable_of(name))
    if value is None:
        raise SecretNotFound(f"{variable_of(name)} is not set where this worker runs")
    return value


lookup: ContextVar[Lookup] = ContextVar("jobdeck_secret_lookup", default=from_environment)
"""Where the running attempt finds secrets: it knows the team."""


def name_of(reference: str) -> str:
    """The name, in upper case."""
    return reference.removeprefix(SCHEME).upper()


def resolve(reference: str, look_up: Lookup | None = None) -> str:
    """The value behind `secret://NAME`, masked from now on. Raises SecretNotFound, SecretNotGranted."""
    value = (look_up or lookup.get())(name_of(reference))
    remember(value, reference)
    return value


class Revealed(str):
    """The value of a reference in params, which still knows the reference: a `Secret` made of it holds that."""

    __slots__ = ("reference",)
    reference: str

    def __new__(cls, value: str, reference: str) -> Revealed:
        made = super().__new__(cls, value)
        made.reference = reference
        return made


class Secret:
    """A param field that holds a reference; `reveal()` gives the value, inside the worker only."""

    __slots__ = ("_look_up", "_reference")

    def __init__(self, reference: str) -> None:
        text = reference.reference if isinstance(reference, Revealed) else reference
        if not isinstance(text, str) or not REFERENCE.fullmatch(text):
            raise ValueError(
                f"a secret is given as {SCHEME}NAME (set as {VARIABLE_PREFIX}NAME where the worker runs), "
                "never in clear"
            )
        self._reference = text
        # Kept, because a thread that the handler starts knows nothing of the attempt.
        self._look_up = lookup.get()

    @staticmethod
    def is_reference(value: object) -> TypeGuard[str]:
        """Whether `value` is meant as a reference, a misspelt one too, or has come from one in the run's params."""
        return isinstance(value, Revealed) or (isinstance(value, str) and value.startswith("secret:"))

    @property
    def reference(self) -> str:
        """What is stored: `secret://NAME`."""
        return self._reference

    def reveal(self) -> str:
        """The value. Raises SecretNotFound or SecretNotGranted, both of them a LookupError."""
        return resolve(self._reference, self._look_up)

    def __repr__(self) -> str:
        return f"Secret({self._reference!r})"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._reference == self._reference

    def __hash__(self) -> int:
        return hash(self._reference)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, _memo: Any) -> Secret:
        return self

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        return Secret, (self._reference,)

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
