"""Outbound HTTP that can be pointed at any URL a stranger writes down."""

from jobdeck.net.address import PUBLIC_PORTS, AddressPolicy
from jobdeck.net.client import DEADLINE, MAX_BYTES, METHODS, GuardedClient, OnOverflow
from jobdeck.net.errors import (
    BadResponse,
    BlockedAddress,
    ConnectFailed,
    DeadlineExceeded,
    HostBusy,
    HttpError,
    InvalidRequest,
    InvalidUrl,
    ResponseTooLarge,
)
from jobdeck.net.exchange import HttpTiming
from jobdeck.net.headers import HEADER_BYTES, HEADERS, check_headers
from jobdeck.net.resolver import Resolver
from jobdeck.net.response import Headers, HttpResponse
from jobdeck.net.url import URL_CHARS, CheckedUrl, Query, check_url

__all__ = [
    "DEADLINE",
    "HEADERS",
    "HEADER_BYTES",
    "MAX_BYTES",
    "METHODS",
    "PUBLIC_PORTS",
    "URL_CHARS",
    "AddressPolicy",
    "BadResponse",
    "BlockedAddress",
    "CheckedUrl",
    "ConnectFailed",
    "DeadlineExceeded",
    "GuardedClient",
    "Headers",
    "HostBusy",
    "HttpError",
    "HttpResponse",
    "HttpTiming",
    "InvalidRequest",
    "InvalidUrl",
    "OnOverflow",
    "Query",
    "Resolver",
    "ResponseTooLarge",
    "check_headers",
    "check_url",
]
