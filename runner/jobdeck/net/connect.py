"""The only place that opens outbound HTTP connections: resolve once, check, dial what was checked."""

from __future__ import annotations

import os
import socket
import ssl
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

import certifi
import httpcore

from jobdeck.net.address import AddressPolicy, unwrap
from jobdeck.net.errors import BlockedAddress, ConnectFailed
from jobdeck.net.exchange import Exchange
from jobdeck.net.host import IPAddress
from jobdeck.net.resolver import Resolver

# A name with more addresses is checked whole; only this many are tried.
_DIALS: Final = 4
# A dead address (often IPv6 without a route) must not use up the deadline of the ones after it.
_DIAL_SECONDS: Final = 3.0


class GuardedStream(httpcore.AsyncNetworkStream):
    """A connection that charges what it reads to the exchange it is working for."""

    def __init__(self, inner: httpcore.AsyncNetworkStream, exchange: Exchange) -> None:
        self._inner = inner
        self.exchange = exchange

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self.exchange.before_read()
        data = await self._inner.read(max_bytes, timeout)
        self.exchange.received(len(data))
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class Connector:
    """Opens connections to addresses that the policy permits."""

    def __init__(
        self,
        policy: AddressPolicy,
        resolver: Resolver,
        ssl_context: ssl.SSLContext | None,
        dialer: httpcore.AsyncNetworkBackend | None,
    ) -> None:
        self._policy = policy
        self._resolver = resolver
        self._ssl_context = ssl_context and _speaking_http1(ssl_context)
        self._dialer = dialer or httpcore.AnyIOBackend()

    async def open(self, exchange: Exchange) -> GuardedStream:
        """Connect to the target of `exchange`, with TLS for https.

        Raises BlockedAddress before anything is dialled if one of the addresses is not permitted, and
        ConnectFailed. Cancelling it at any point leaves no connection open.
        """
        url = exchange.url
        addresses = await self._resolve(url.host, url.port)
        for address in addresses:
            self._policy.check(address, host=url.host, port=url.port, secure=url.secure)
        stream, address = await self._dial(addresses[:_DIALS], exchange)
        try:
            _check_peer(stream, address, exchange)
            if url.secure:
                stream = await stream.start_tls(self._tls(), url.host)
        except BaseException as error:
            # AnyIOStream closes itself when TLS fails, but not when the handshake is cancelled.
            await stream.aclose()
            if isinstance(error, httpcore.ConnectError):
                raise ConnectFailed(f"{url.origin} did not accept TLS: {explain(error)}") from error
            raise
        return GuardedStream(stream, exchange)

    def _tls(self) -> ssl.SSLContext:
        # With the first use: the certificates are 3 MiB, which most workers do without.
        if self._ssl_context is None:
            self._ssl_context = _speaking_http1(ssl.create_default_context(cafile=certifi.where()))
        return self._ssl_context

    async def _resolve(self, host: str, port: int) -> list[IPAddress]:
        try:
            return [_unmapped(ip_address(host))]
        except ValueError:
            pass
        try:
            answers = await self._resolver(host, port)
        except OSError as error:
            raise ConnectFailed(f"the name {host} cannot be resolved: {explain(error)}") from error
        if not answers:
            raise ConnectFailed(f"the name {host} has no address")
        return [_unmapped(ip_address(answer)) for answer in answers]

    async def _dial(
        self, addresses: list[IPAddress], exchange: Exchange
    ) -> tuple[httpcore.AsyncNetworkStream, IPAddress]:
        """The first of the checked addresses that answers."""
        failure: Exception | None = None
        for address in addresses:
            wait = None if address is addresses[-1] else _DIAL_SECONDS
            try:
                return await self._dialer.connect_tcp(str(address), exchange.url.port, wait), address
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise ConnectFailed(f"{exchange.url.origin} cannot be reached: {explain(failure)}") from failure


def _speaking_http1(context: ssl.SSLContext) -> ssl.SSLContext:
    context.set_alpn_protocols(["http/1.1"])
    return context


def _unmapped(address: IPAddress) -> IPAddress:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _check_peer(stream: httpcore.AsyncNetworkStream, address: IPAddress, exchange: Exchange) -> None:
    """The second check: the other end of the socket is the address that was checked."""
    try:
        peer = ip_address(stream.get_extra_info("socket").getpeername()[0])
    except OSError as error:
        raise ConnectFailed(f"{exchange.url.origin} closed the connection at once") from error
    if unwrap(peer) != unwrap(address):
        raise BlockedAddress(f"{exchange.url.origin} was dialled at {address}, but {peer} answered")


def explain(error: BaseException | None) -> str:
    """The innermost cause in a few words: httpcore and anyio wrap what the system said."""
    while error is not None and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.errno and not isinstance(error, ssl.SSLError | socket.gaierror):
        # asyncio puts the address, which may be one of several, in place of the reason.
        return os.strerror(error.errno)
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{text or type(error).__name__:.200}"
