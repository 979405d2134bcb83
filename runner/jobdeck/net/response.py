"""What came back, read strictly."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from jobdeck.net.errors import BadResponse
from jobdeck.net.exchange import HttpTiming

RETRY_AFTER_MAX: Final = 86_400.0
"""Most seconds that a server can make us wait."""

# A charset is a name from a stranger: only these may choose a codec (Python has some that are no charsets).
_CHARSETS: Final = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "ascii",
    "ascii": "ascii",
    # The WHATWG encoding standard reads latin-1 as windows-1252, because servers mean it.
    "iso-8859-1": "cp1252",
    "latin1": "cp1252",
    "windows-1252": "cp1252",
    "iso-8859-15": "iso8859-15",
    "utf-16": "utf-16",
    "utf-16le": "utf-16-le",
    "utf-16be": "utf-16-be",
}


_CHARSET: Final = re.compile(r"""charset\s*=\s*["']?([\w.:-]+)""", re.IGNORECASE | re.ASCII)


class Headers(Mapping[str, str]):
    """Response headers by name in any case. A header sent several times is joined by a comma and a blank."""

    def __init__(self, sent: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in sent:
            self._values.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))

    def __getitem__(self, name: str) -> str:
        return ", ".join(self._values[name.lower()])

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def get_list(self, name: str) -> list[str]:
        """The values of a header one by one (Set-Cookie holds commas of its own)."""
        return list(self._values.get(name.lower(), ()))


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """The response to one request. Nothing in it is trusted: not the headers, not the body."""

    status: int
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)
    """As sent: never decompressed, even if the server compressed it without being asked."""
    truncated: bool
    """True when the body was longer than `max_bytes` and only its beginning was kept."""
    timing: HttpTiming
    url: str = field(repr=False)
    """The URL that was requested, params included."""

    @property
    def ok(self) -> bool:
        """A status of 200-299. A redirect is not ok: it is never followed."""
        return 200 <= self.status < 300

    @property
    def retry_after(self) -> float | None:
        """Seconds the server asks to wait, from `Retry-After` as seconds or as a date; None if it does not say.

        A date is measured against the server's own `Date`, so that a wrong clock on either side does no harm. A
        server that asks for more than a day is not believed.
        """
        text = self.headers.get("retry-after", "").strip()
        if text.isascii() and text.isdigit():
            return min(float(text[:12]), RETRY_AFTER_MAX)
        until = _http_date(text)
        if until is None:
            return None
        now = _http_date(self.headers.get("date", "")) or datetime.now(UTC)
        return min(max((until - now).total_seconds(), 0.0), RETRY_AFTER_MAX)

    def text(self) -> str:
        """The body as text in the charset of Content-Type, else UTF-8; wrong bytes become U+FFFD.

        Raises BadResponse for a compressed body.
        """
        self._refuse_compressed()
        named = _CHARSET.search(self.headers.get("content-type", ""))
        return self.body.decode(_CHARSETS.get(named[1].lower() if named else "", "utf-8"), errors="replace")

    def json(self) -> Any:
        """The body as JSON (RFC 8259, UTF-8). Raises BadResponse for anything else.

        Refused as well: a name twice in one object, NaN and numbers too large for a float, nesting that
        is too deep to be read, a body that was cut.
        """
        self._refuse_compressed()
        if self.truncated:
            raise BadResponse(f"the body was cut after {len(self.body):,} bytes and cannot be read as JSON")
        try:
            return json.loads(
                self.body.decode("utf-8-sig"),
                object_pairs_hook=_object,
                parse_constant=_refuse_constant,
                parse_float=_finite,
            )
        except RecursionError:
            raise BadResponse("the body is JSON that is nested too deeply") from None
        except ValueError as error:
            raise BadResponse(f"the body is not valid JSON: {error!s:.200}") from None

    def _refuse_compressed(self) -> None:
        codings = [part.strip().lower() for part in self.headers.get("content-encoding", "").split(",")]
        if any(coding not in ("", "identity") for coding in codings):
            raise BadResponse(
                "the server compressed the body though it was asked not to; body has the raw bytes"
            )


def _http_date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object names a key twice")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number
