"""The demo's source: a small paginated HTTP API on 127.0.0.1, rate-limited, that now and then answers 429 or 500.

python -m jobdeck.demo.api        prints its address, serves until its standard input ends
"""

from __future__ import annotations

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

PRODUCTS: Final = 1_200
PAGE: Final = 40
# A request takes this long, so that there is something to watch.
_LATENCY: Final = 0.15
# The server's mood, by number of the request: every 7th is told to slow down, every 11th fails.
_TOO_MANY_EVERY: Final = 7
_FAIL_EVERY: Final = 11
_KINDS: Final = ("lamp", "chair", "shelf", "table", "clock", "mirror")
_SHADES: Final = ("oak", "steel", "glass", "linen", "stone")


def product(number: int) -> dict[str, Any]:
    """Record `number` (from 1) of the catalogue; always the same for the same number."""
    kind, shade = _KINDS[number % len(_KINDS)], _SHADES[number % len(_SHADES)]
    return {
        "sku": f"P{number:05d}",
        "title": f"{shade} {kind} no. {number}",
        "price_cents": 990 + number * 37 % 40_000,
        "stock": number * 13 % 250,
        "active": number % 9 != 0,
        "tags": [kind, shade],
        "size": {"w": 10 + number % 90, "h": 20 + number % 70},
        "updated_at": f"2026-{1 + number % 12:02d}-{1 + number % 28:02d}T10:00:00Z",
    }


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._count = 0
        self._lock = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up early is part of the demo; a traceback would stand in the middle of the console."""

    def next_number(self) -> int:
        with self._lock:
            self._count += 1
            return self._count


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path != "/products":
            self._answer(404, {"error": f"no such path: {url.path}; try /products?page=1"})
            return
        time.sleep(_LATENCY)
        number = self.server.next_number()
        if number % _TOO_MANY_EVERY == 0:
            self._answer(429, {"error": "slow down"}, {"Retry-After": "1"})
        elif number % _FAIL_EVERY == 0:
            self._answer(500, {"error": "the server had a bad moment"})
        else:
            self._answer(200, _page(parse_qs(url.query)))

    def _answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: the console owns the terminal."""


def _page(query: dict[str, list[str]]) -> dict[str, Any]:
    text = query.get("page", ["1"])[0]
    page = max(int(text), 1) if text.isascii() and text.isdigit() else 1
    first = (page - 1) * PAGE + 1
    records = [product(number) for number in range(first, min(first + PAGE, PRODUCTS + 1))]
    return {"data": records, "page": page, "total": PRODUCTS}


def main() -> None:
    """Serve until standard input ends: the demo holds the other end, so the server never outlives it."""
    server = _Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main()
