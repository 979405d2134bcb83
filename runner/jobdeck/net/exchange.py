"""One request and its response: what it may use up, how far it is, and how long each part took."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from jobdeck.net.errors import BadResponse
from jobdeck.net.url import CheckedUrl

HEAD_BYTES: Final = 64 * 1024
"""Most bytes of status line and headers, interim (1xx) responses included. Servers send 1-16 KiB."""
HEAD_LINES: Final = 256
"""Most header lines of a response."""
# Framing of a chunked body: one-byte chunks cost six bytes a byte, the worst an honest server does.
_FRAMING: Final = 8


@dataclass(frozen=True, slots=True)
class HttpTiming:
    """Where the time of an exchange went, in milliseconds."""

    connect_ms: float
    """Name lookup, TCP and TLS; 0 when an open connection was used again."""
    ttfb_ms: float
    """From the first byte sent to the complete head of the response."""
    transfer_ms: float
    """From the head of the response to the end of its body."""
    total_ms: float
    """All of it, waiting for a free connection included."""


class Exchange:
    """Budget, progress and clock of one request."""

    def __init__(self, url: CheckedUrl, max_bytes: int) -> None:
        self.url = url
        self.phase = "waiting for a free connection"
        self._wire_limit = 2 * HEAD_BYTES + _FRAMING * max_bytes
        self._received = 0
        self._head_done = False
        self.begin()

    def begin(self) -> None:
        """Start the clock: the wait for a turn at the host is over."""
        self._started = self._connecting = self._connected = self._sent = self._head = time.monotonic()

    def connecting(self) -> None:
        self.phase, self._connecting = "connecting", time.monotonic()

    def connected(self) -> None:
        self._connected = time.monotonic()

    def sending(self) -> None:
        self.phase, self._sent = "sending the request", time.monotonic()

    def head_received(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Raise BadResponse unless the head is an answer to this request and has a reasonable size."""
        self.phase, self._head, self._head_done = "reading the body", time.monotonic(), True
        if not self._received:
            # Left over from before the request was sent: planted, or meant for somebody else.
            raise BadResponse(f"{self.url.origin} sent an answer before it was asked")
        size = sum(len(name) + len(value) + len(": \r\n") for name, value in headers)
        if len(headers) > HEAD_LINES or size > HEAD_BYTES:
            raise BadResponse(
                f"{self.url.origin} sent {len(headers):,} headers of {size:,} bytes; "
                f"at most {HEAD_LINES} of {HEAD_BYTES:,} are accepted"
            )

    def before_read(self) -> None:
        """Raise BadResponse when the server has sent all the bytes it may send so far."""
        if not self._head_done:
            self.phase = "waiting for the response"
        limit = self._wire_limit if self._head_done else HEAD_BYTES
        if self._received >= limit:
            what = "framing around its body" if self._head_done else "headers"
            raise BadResponse(f"{self.url.origin} sent more than {limit:,} bytes of {what}")

    def received(self, count: int) -> None:
        self._received += count

    def timing(self) -> HttpTiming:
        """To be called at the end of the body."""
        now = time.monotonic()
        spans = (
            self._connected - self._connecting,
            self._head - self._sent,
            now - self._head,
            now - self._started,
        )
        return HttpTiming(*(round(span * 1000, 3) for span in spans))
