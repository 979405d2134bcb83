"""A JSON API on loopback that pages its records in every way, and answers otherwise where a test plans it."""

from __future__ import annotations

import json
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass
class Reply:
    """One answer; a `body` that is not bytes is sent as JSON."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass
class Asked:
    """One request as the server saw it."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


Route = Callable[[Asked], Reply]


@dataclass
class Api:
    """The API. `plan` is answered before anything else; `routes` are added to the built-in ones."""

    port: int = 0
    records: list[Any] = field(default_factory=list)
    page_size: int = 10
    plan: deque[Reply] = field(default_factory=deque)
    routes: dict[str, Route] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def url(self, path: str) -> str:
        return f"{self.origin}{path}"

    def reply(self, asked: Asked) -> Reply:
        """What the API answers to a request."""
        self.asked.append(asked)
        if self.plan:
            return self.plan.popleft()
        route = self.routes.get(asked.path) or self.builtin(asked.path)
        return route(asked)

    def builtin(self, path: str) -> Route:
        """The built-in route at a path; one that answers 404 where there is none."""
        route: Route = getattr(self, f"_{path.strip('/')}", self._unknown)
        return route

    def _unknown(self, _: Asked) -> Reply:
        return Reply({"detail": "no such path"}, status=404)

    def _everything(self, _: Asked) -> Reply:
        return Reply(self.records)

    def _wrapped(self, _: Asked) -> Reply:
        return Reply({"data": {"items": self.records}, "meta": {"total": len(self.records)}})

    def _pages(self, asked: Asked) -> Reply:
        return self._slice((int(asked.query["page"]) - 1) * self.page_size, self.page_size)

    def _offsets(self, asked: Asked) -> Reply:
        # The server's own limit is smaller than what clients may ask for, as it often is.
        return self._slice(int(asked.query["offset"]), min(int(asked.query["limit"]), self.page_size))

    def _slice(self, start: int, size: int) -> Reply:
        return Reply(self.records[start : start + size], headers={"X-Total-Count": str(len(self.records))})

    def _cursors(self, asked: Asked) -> Reply:
        at = int(asked.query.get("after", "c0")[1:])
        end = at + self.page_size
        following = f"c{end}" if end < len(self.records) else None
        return Reply({"items": self.records[at:end], "paging": {"next": following}})

    def _nexts(self, asked: Asked) -> Reply:
        at = int(asked.query.get("at", "0"))
        end = at + self.page_size
        following = f"/nexts?at={end}" if end < len(self.records) else None
        return Reply({"items": self.records[at:end], "next": following})

    def _links(self, asked: Asked) -> Reply:
        at = int(asked.query.get("at", "0"))
        end = at + self.page_size
        links = [f'<{self.url("/links")}?at=0>; rel="first"']
        if end < len(self.records):
            links.append(f'<{self.url("/links")}?at={end}>; title="a, b"; rel="next last"')
        return Reply(self.records[at:end], headers={"Link": ", ".join(links)})

    def _changed(self, asked: Asked) -> Reply:
        since = asked.query.get("since", "")
        return Reply([each for each in self.records if str(each["changed"]) >= since])


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        # Clients that hang up early are what some tests are about.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving() -> Iterator[Api]:
    """The API, on a free port of 127.0.0.1, until the block ends."""
    api = Api()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body are two writes: the second would wait up to 40 ms for the first to be acknowledged.
        disable_nagle_algorithm = True

        def answer(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
            asked = Asked(self.command, parts.path, query, dict(self.headers.items()), body)
            reply = api.reply(asked)
            content = reply.content
            # Not `send_response`, which adds a Date of its own to the one a test may want.
            self.send_response_only(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

        def log_message(self, *_: Any) -> None:
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    api.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
