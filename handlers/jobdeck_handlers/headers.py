"""Request headers whose values may be secret: `secret://API_TOKEN`, or behind a scheme `Bearer secret://API_TOKEN`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeAlias

from pydantic import AfterValidator, BeforeValidator

from jobdeck import Discard, Secret, ValidationError, check_headers

# An authentication scheme is a token of RFC 9110, with one blank behind it.
_BEHIND_SCHEME: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+ )(secret:.*)")


def _secret_where_written_so(value: Any) -> Any:
    if not isinstance(value, str | Secret):
        raise ValueError("the value of a header is text")
    # A misspelt reference must be an error, not a header that is sent as it stands.
    if Secret.is_reference(value):
        return Secret(value)
    if isinstance(value, str) and (found := _BEHIND_SCHEME.fullmatch(value)):
        Secret(found[2])
    return value


def _may_be_sent(headers: dict[str, Secret | str]) -> dict[str, Secret | str]:
    """As far as it can be told before the secrets are there; what is sent is checked again."""
    try:
        check_headers({name: "" if isinstance(value, Secret) else value for name, value in headers.items()})
    except ValidationError as error:
        raise ValueError(str(error)) from None
    return headers


HeaderValue: TypeAlias = Annotated[Secret | str, BeforeValidator(_secret_where_written_so)]
Headers: TypeAlias = Annotated[dict[str, HeaderValue], AfterValidator(_may_be_sent)]


def reveal(headers: Mapping[str, Secret | str]) -> dict[str, str]:
    """The headers to send. Raises Discard naming the secret that is not found, or not granted to the team."""
    try:
        return {name: _sent(value) for name, value in headers.items()}
    except LookupError as error:
        raise Discard(str(error.args[0])) from None


def _sent(value: Secret | str) -> str:
    if isinstance(value, Secret):
        return value.reveal()
    found = _BEHIND_SCHEME.fullmatch(value)
    return value if found is None else found[1] + Secret(found[2]).reveal()
