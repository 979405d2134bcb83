"""A billing API on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PAGES: dict[int, dict[str, Any]] = {
    1: {"invoices": [{"cents": 100}, {"cents": 250}], "next": 2, "total": 3},
    2: {"invoices": [{"cents": 1}], "next": None, "total": 3},
}


class Billing(ThreadingHTTPServer):
    """Answers with pages; `requests` is what was asked, `busy` makes it answer 429."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.requests: list[tuple[str, str | None]] = []
        self.busy = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    server: Billing

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers["Authorization"]))
        page = 2 if "page=2" in self.path else 1
        body = json.dumps(PAGES[page]).encode()
        self.send_response(429 if self.server.busy else 200)
        self.send_header("Retry-After", "7")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


@contextmanager
def billing_api() -> Iterator[Billing]:
    """A running API."""
    server = Billing()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
