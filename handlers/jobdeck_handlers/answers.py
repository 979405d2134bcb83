"""What the status of an HTTP answer means for a run: is asking again of any use, and when."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from jobdeck import HttpResponse

RETRY_AFTER_MAX: Final = 86_400.0
"""Seconds. A server that asks for more than a day is not believed."""
# Request Timeout, Too Early and Too Many Requests: the only client errors (4xx) that may pass by themselves.
_PASSING: Final = frozenset({408, 425, 429})
_SNIPPET: Final = 200


def may_pass(status: int) -> bool:
    """Whether the same request may succeed later: a server's error, or one of 408, 425, 429."""
    return status >= 500 or status in _PASSING


def retry_after(response: HttpResponse) -> float | None:
    """Seconds the server asks to wait, from `Retry-After` as seconds or as a date; None if it does not say.

    A date is measured against the server's own `Date`, so that a wrong clock on either side does no harm.
    """
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), RETRY_AFTER_MAX)
    until = _http_date(text)
    if until is None:
        return None
    now = _http_date(response.headers.get("date", "")) or datetime.now(UTC)
    return min(max((until - now).total_seconds(), 0.0), RETRY_AFTER_MAX)


def describe(response: HttpResponse) -> str:
    """`answered 404: {"detail":"Not found"}`, with the beginning of the body."""
    body = " ".join(response.body[: 4 * _SNIPPET].decode(errors="replace").split())
    if len(body) > _SNIPPET:
        body = body[:_SNIPPET] + "…"
    return f"answered {response.status}" + (f": {body}" if body else "")


def _http_date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found
