"""The one HTTP client: every outbound request of jobdeck and its handlers goes through it (promise 9)."""

from __future__ import annotations

import asyncio
import json as jsonlib
import math
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeAlias, TypeVar

import httpcore

from jobdeck.clock import Clock, SystemClock
from jobdeck.limits import HTTP_PER_HOST
from jobdeck.net.address import AddressPolicy
from jobdeck.net.connect import Connector, explain
from jobdeck.net.errors import BadResponse, DeadlineExceeded, InvalidRequest, ResponseTooLarge
from jobdeck.net.exchange import Exchange
from jobdeck.net.headers import check_headers
from jobdeck.net.hosts import PATIENCE, Hosts
from jobdeck.net.pool import Pool
from jobdeck.net.resolver import Resolver, SystemResolver
from jobdeck.net.response import Headers, HttpResponse
from jobdeck.net.url import CheckedUrl, Query, check_url

MAX_BYTES: Final = 64 * 1024
"""Default cap on the raw bytes of a response body (reliability.md S4)."""
DEADLINE: Final = 30.0
"""Default seconds for a whole exchange, name lookup to last byte of the body (spec.md B9)."""
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

OnOverflow: TypeAlias = Literal["error", "truncate"]
_Number = TypeVar("_Number", int, float)


class GuardedClient:
    """Sends requests to targets that `policy` permits, and bounds what they may cost.

    Redirects are returned, never followed; proxies and certificates named in the environment are ignored;
    cookies are not kept; bodies are not decompressed; a failed request is not sent again. Connections are
    kept open for 2 s and used again; an address is checked at each connect. Belongs to one event loop, the
    one of its first request. `max_bytes` and `deadline` (seconds) are the defaults of `request`; at most
    `per_host` requests to one host are under way at a time, and none while the host asks for a pause. `signs`: it sends
    jobdeck's own webhooks, and nobody else may set their headers.
    """

    def __init__(
        self,
        policy: AddressPolicy,
        *,
        max_bytes: int = MAX_BYTES,
        deadline: float = DEADLINE,
        per_host: int = HTTP_PER_HOST,
        user_agent: str = "jobdeck",
        resolver: Resolver | None = None,
        ssl_context: ssl.SSLContext | None = None,
        dialer: httpcore.AsyncNetworkBackend | None = None,
        clock: Clock | None = None,
        signs: bool = False,
    ) -> None:
        self._policy = policy
        self._signs = signs
        self._hosts = Hosts(_positive("per_host", per_host), clock or SystemClock())
        self._max_bytes = _positive("max_bytes", max_bytes)
        self._deadline = _positive("deadline", deadline)
        self._user_agent = user_agent
        self._system = SystemResolver()
        self._pool = Pool(Connector(policy, resolver or self._system, ssl_context, dialer))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections. The client cannot be used afterwards."""
        self._system.close()
        await self._pool.aclose()

    def check(self, url: str, *, headers: Mapping[str, str] | None = None) -> CheckedUrl:
        """Apply the rules that need no network, as `request` would; for use when params are accepted.

        Raises InvalidUrl, InvalidRequest, BlockedAddress.
        """
        check_headers(headers or {})
        return check_url(url, self._policy)

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Query | None = None,
        json: Any = None,
        content: bytes | None = None,
        deadline: float | None = None,
        max_bytes: int | None = None,
        on_overflow: OnOverflow = "error",
        patience: float = PATIENCE,
    ) -> HttpResponse:
        """Send one request and read its response, whatever the status.

        `params` join the query of `url` (see check_url); `json` (None = no body) or `content` is the body.
        `deadline` is seconds for everything, name lookup to last byte; `max_bytes` caps the raw body:
        beyond it ResponseTooLarge is raised, or with `on_overflow="truncate"` the beginning is returned.
        `patience` is how many seconds it may wait, before that, for its turn at the host.

        Raises InvalidUrl, InvalidRequest, BlockedAddress and HostBusy before anything is sent; ConnectFailed,
        DeadlineExceeded, BadResponse, ResponseTooLarge. Cancelling it closes its connection.
        """
        checked = check_url(url, self._policy, params=params)
        limit = self._max_bytes if max_bytes is None else _positive("max_bytes", max_bytes)
        seconds = self._deadline if deadline is None else _positive("deadline", deadline)
        exchange = Exchange(checked, limit)
        request = self._build(method, checked, headers or {}, _body(json, content))
        async with self._hosts.place(checked.host, patience):
            exchange.begin()
            try:
                async with asyncio.timeout(seconds):
                    response = await self._perform(request, exchange, limit, on_overflow)
            except TimeoutError:
                raise DeadlineExceeded(
                    f"{checked.origin} did not finish within {seconds:g} s; it was still {exchange.phase}"
                ) from None
            self._hosts.answered(checked.host, response)
            return response

    def _build(
        self,
        method: str,
        url: CheckedUrl,
        headers: Mapping[str, str],
        body: tuple[bytes | None, str | None],
    ) -> httpcore.Request:
        if method.upper() not in METHODS:
            known = ", ".join(sorted(METHODS))
            raise InvalidRequest(f"{method[:20]!r} is not a method; use one of {known}", field="method")
        content, content_type = body
        given = check_headers(headers, signs=self._signs)
        defaults = [("User-Agent", self._user_agent), ("Accept", "*/*")]
        if content_type is not None:
            defaults.append(("Content-Type", content_type))
        names = {name.lower() for name, _ in given}
        sent = [("Host", url.authority), *(pair for pair in defaults if pair[0].lower() not in names), *given]
        sent.append(("Accept-Encoding", "identity"))
        if content is not None or method.upper() in ("POST", "PUT", "PATCH"):
            sent.append(("Content-Length", str(len(content or b""))))
        return httpcore.Request(
            method.upper(),
            httpcore.URL(scheme=url.scheme, host=url.host, port=url.port, target=url.target),
            headers=sent,
            content=content or b"",
        )

    async def _perform(
        self, request: httpcore.Request, exchange: Exchange, limit: int, on_overflow: OnOverflow
    ) -> HttpResponse:
        origin = exchange.url.origin
        try:
            async with self._pool.connection(request.url.origin, exchange) as connection:
                exchange.sending()
                response = await connection.handle_async_request(request)
                try:
                    exchange.head_received(response.headers)
                    body, truncated = await _read_body(response, limit, on_overflow, origin)
                finally:
                    await response.aclose()
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            raise BadResponse(f"{origin} broke off while {exchange.phase}: {explain(error)}") from error
        return HttpResponse(
            response.status, Headers(response.headers), body, truncated, exchange.timing(), str(exchange.url)
        )


async def _read_body(
    response: httpcore.Response, limit: int, on_overflow: OnOverflow, origin: str
) -> tuple[bytes, bool]:
    """The raw body and whether it was cut."""
    body = bytearray()
    async for chunk in response.aiter_stream():
        body += chunk
        if len(body) > limit:
            if on_overflow == "error":
                raise ResponseTooLarge(f"{origin} sent a body of more than {limit:,} bytes")
            return bytes(body[:limit]), True
    return bytes(body), False


def _body(json: Any, content: bytes | None) -> tuple[bytes | None, str | None]:
    """The bytes to send and their content type."""
    if json is None:
        return content, None
    if content is not None:
        raise InvalidRequest("a request has json or content, not both", field="json")
    try:
        text = jsonlib.dumps(json, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return text.encode(), "application/json"
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body cannot be written as JSON: {error!s:.200}", field="json") from None


def _positive(name: str, value: _Number) -> _Number:
    if not 0 < value < math.inf:
        raise InvalidRequest(f"{name} is {value}; it must be a positive number", field=name)
    return value
