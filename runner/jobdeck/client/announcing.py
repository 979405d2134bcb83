"""Whom the end of a run is told to, as far as a trigger states it. Nothing is looked up or fetched here."""

from __future__ import annotations

from collections.abc import Sequence

from jobdeck import limits
from jobdeck.client.options import RunOptions
from jobdeck.errors import ValidationError
from jobdeck.model import RunExtras


def announced(extras: RunExtras | None, options: RunOptions, allow: Sequence[str]) -> RunExtras | None:
    """The extras of a run, with whom it tells. Raises ValidationError for a URL that nothing may be sent to."""
    url = options.callback_url
    if url is None and not options.notify:
        return extras
    if url is not None:
        url = checked_webhook(url, "callback_url", allow)
    return (extras or RunExtras())._replace(callback_url=url, announces=True)


def checked_webhook(url: str, field: str, allow: Sequence[str]) -> str:
    """The URL as it will be requested: https, or what [http] allow opens. Raises ValidationError."""
    # Only where it is needed: HTTP takes longer to load than the rest of a command.
    from jobdeck.net import AddressPolicy, check_url

    try:
        found = str(check_url(url, AddressPolicy(allow)))
    except ValidationError as error:
        raise ValidationError(f"{field}: {error}", field=field) from None
    if len(found) > limits.URL_CHARS:
        raise ValidationError(
            f"{field} has at most {limits.URL_CHARS:,} characters, not {len(found):,}", field=field
        )
    return found
