"""Request headers whose values may be secret: `{"Authorization": "secret://API_TOKEN"}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator

from jobdeck import Discard, Secret


def _secret_where_written_so(value: Any) -> Any:
    if not isinstance(value, str | Secret):
        raise ValueError("the value of a header is text")
    # A misspelt reference must be an error, not a header that is sent as it stands.
    return Secret(value) if isinstance(value, str) and value.startswith("secret:") else value


HeaderValue: TypeAlias = Annotated[Secret | str, BeforeValidator(_secret_where_written_so)]


def reveal(headers: Mapping[str, Secret | str]) -> dict[str, str]:
    """The headers to send. Raises Discard naming the variable that a secret is not found in."""
    try:
        return {
            name: value.reveal() if isinstance(value, Secret) else value for name, value in headers.items()
        }
    except LookupError as error:
        raise Discard(str(error.args[0])) from None
