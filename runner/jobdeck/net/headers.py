"""Which headers a caller may put on an outbound request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from jobdeck.net.errors import InvalidRequest

HEADERS: Final = 32
"""Most headers a caller may set."""
HEADER_BYTES: Final = 8 * 1024
"""Most bytes of all of them together, as sent. Common servers refuse more than 8 KiB."""

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")
# Framing, connection and content negotiation belong to the client: a caller who could set them could
# smuggle a second request, reach another virtual host, or ask for a compressed body.
_RESERVED: Final = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# `webhook-*` carries jobdeck's own signature (Standard Webhooks); `proxy-*` is for the next hop only.
_SIGNATURE: Final = "webhook-"
_NEXT_HOP: Final = "proxy-"


def check_headers(headers: Mapping[str, str], *, signs: bool = False) -> list[tuple[str, str]]:
    """The headers as they will be sent, in the given order. Raises InvalidRequest naming the header.

    `signs`: they are those of jobdeck's own webhooks.

    Values are never part of a message: they may be secret.
    """
    if len(headers) > HEADERS:
        raise _refused(f"there are {len(headers)} headers; at most {HEADERS} are allowed")
    checked: list[tuple[str, str]] = []
    seen: set[str] = set()
    size = 0
    for name, value in headers.items():
        _check_name(name, signs)
        if name.lower() in seen:
            raise _refused(f"the header {name} is given twice; upper and lower case are the same")
        seen.add(name.lower())
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise _refused(
                f"the value of the header {name} has a line break, a control character or "
                "a character outside ASCII; remove it or percent-encode it"
            )
        checked.append((name, value.strip(" \t")))
        size += len(name) + len(value) + len(": \r\n")
    if size > HEADER_BYTES:
        raise _refused(f"the headers have {size:,} bytes; at most {HEADER_BYTES:,} are allowed")
    return checked


def _check_name(name: str, signs: bool) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _refused(f"{name!r:.60} is not a header name; use letters, digits and -")
    lowered = name.lower()
    forged = lowered.startswith(_SIGNATURE) and not signs
    if lowered in _RESERVED or lowered.startswith(_NEXT_HOP) or forged:
        raise _refused(f"the header {name:.60} is set by jobdeck itself; remove it")


def _refused(message: str) -> InvalidRequest:
    return InvalidRequest(message, field="headers")
