"""What a request URL may look like, checked before anything is resolved or sent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, TypeAlias
from urllib.parse import SplitResult, quote, unquote_plus, urlencode, urlsplit

from jobdeck.net.address import PUBLIC_PORTS, AddressPolicy
from jobdeck.net.errors import BlockedAddress, InvalidUrl
from jobdeck.net.host import IPAddress, canonical_host, format_host, is_local_name

URL_CHARS: Final = 8_192
"""Longest URL, query included. Common servers refuse a request line of more than 8 KiB."""

QueryValue: TypeAlias = str | int | float | bool | None
Query: TypeAlias = Mapping[str, QueryValue | Sequence[QueryValue]]

_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
# Parsers disagree about these (some drop them, some read `\` as `/`), so no URL may have them.
_ODD: Final = re.compile(r"[\x00-\x20\x7f-\xa0\\\u2028\u2029\ud800-\udfff\ufeff]")
# RFC 3986 3.3 and 3.4, with % because what is encoded already stays as it is.
_PATH_SAFE: Final = "/%:@!$&'()*+,;=-._~"
# Servers read these unencoded, and signatures over the query are made with them unencoded.
_QUERY_SAFE: Final = _PATH_SAFE + "?|[]^"
_AUTHORITY: Final = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(?::(?P<port>[^:]*))?")


@dataclass(frozen=True, slots=True)
class CheckedUrl:
    """A URL that passed every rule, in the one spelling that is dialled and sent."""

    scheme: str
    host: str
    """Lower-case ASCII host name, or an IP address without brackets."""
    port: int
    target: str
    """Path and query, percent-encoded, as it stands in the request line."""

    @property
    def secure(self) -> bool:
        return self.scheme == "https"

    @property
    def address(self) -> IPAddress | None:
        """The address, if the host is one and no name."""
        try:
            return ip_address(self.host)
        except ValueError:
            return None

    @property
    def authority(self) -> str:
        """Value of the Host header: the port is left out where it is the default."""
        host = format_host(self.address or self.host)
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """`https://host[:port]`. Two URLs of one origin may share credentials; it holds no secret itself."""
        return f"{self.scheme}://{self.authority}"

    def __str__(self) -> str:
        return f"{self.origin}{self.target}"


def check_url(text: str, policy: AddressPolicy, *, params: Query | None = None) -> CheckedUrl:
    """The URL in canonical form, with `params` in its query.

    A name in `params` replaces the same name in the URL, a list gives it several times, None leaves it out.
    Does no network access: a host name is judged by its spelling here, and by its addresses at connect.
    Raises InvalidUrl naming the broken rule, BlockedAddress for a target that is closed whatever it
    resolves to.
    """
    parts = _split(text)
    if "@" in parts.netloc:
        raise InvalidUrl("the URL has a user name or password before @; send it in the Authorization header")
    if "#" in text:
        raise InvalidUrl("the URL has a fragment; leave out the part from the # on, servers never get it")
    host, port = _authority(parts)
    _check_target(host, port, parts.scheme, policy)
    return CheckedUrl(parts.scheme, str(host), port, _request_target(parts, params))


def _split(text: str) -> SplitResult:
    if len(text) > URL_CHARS:
        raise InvalidUrl(f"the URL has {len(text):,} characters; at most {URL_CHARS:,} are allowed")
    odd = _ODD.search(text)
    if odd is not None:
        raise InvalidUrl(
            f"the URL has the character {odd[0]!r} at position {odd.start() + 1}; "
            "remove it, or percent-encode it in the path or query"
        )
    try:
        parts = urlsplit(text)
    except ValueError:
        raise InvalidUrl("the URL cannot be read; write it like https://api.example.com/path") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise InvalidUrl("the URL does not start with https://; write it like https://api.example.com/path")
    if not parts.netloc:
        raise InvalidUrl("the URL has no host; write it like https://api.example.com/path")
    return parts


def _authority(parts: SplitResult) -> tuple[str | IPAddress, int]:
    found = _AUTHORITY.fullmatch(parts.netloc)
    if found is None:
        raise InvalidUrl("the host has brackets or colons out of place; write IPv6 like [2001:db8::1]")
    if not found["host"]:
        raise InvalidUrl("the URL has no host; write it like https://api.example.com/path")
    host, digits = canonical_host(found["host"]), found["port"]
    if digits is None:
        return host, _DEFAULT_PORTS[parts.scheme]
    if not re.fullmatch(r"[0-9]{1,5}", digits) or not 1 <= int(digits) <= 65_535:
        raise InvalidUrl(f"{digits[:20]!r} is not a port; a port is a number from 1 to 65535")
    return host, int(digits)


def _check_target(host: str | IPAddress, port: int, scheme: str, policy: AddressPolicy) -> None:
    secure = scheme == "https"
    entry = f"{format_host(host)}:{port}"
    if isinstance(host, str):
        # With a network entry for this port only the resolved address can tell; connect decides.
        opened = policy.opens_name(host, port) or policy.may_open(port)
    else:
        opened = policy.opens_address(host, port)
    if not opened and not secure:
        raise InvalidUrl(
            f"the URL uses http; use https://, or list {entry} under [http] allow "
            "in the server's configuration"
        )
    if not opened and port not in PUBLIC_PORTS:
        raise InvalidUrl(
            f"port {port} is not open; use 443 or 8443, or list {entry} under [http] allow "
            "in the server's configuration"
        )
    if not isinstance(host, str):
        policy.check(host, host=str(host), port=port, secure=secure)
    elif not opened and is_local_name(host):
        raise BlockedAddress(
            f"{host} is a name of a private network; a private target must be listed under [http] allow "
            "in the server's configuration"
        )


def _request_target(parts: SplitResult, params: Query | None) -> str:
    try:
        query = _merge(parts.query, params or {})
    except UnicodeEncodeError:
        raise InvalidUrl("a query parameter has half a surrogate pair, which is not text") from None
    path = quote(parts.path or "/", safe=_PATH_SAFE)
    target = f"{path}?{query}" if query else path
    if len(target) > URL_CHARS:
        raise InvalidUrl(f"path and query have {len(target):,} characters; at most {URL_CHARS:,} are allowed")
    return target


def _merge(query: str, params: Query) -> str:
    """What stands in the URL stays byte for byte: it may be an opaque cursor or a signature."""
    kept = [each for each in query.split("&") if each and unquote_plus(each.partition("=")[0]) not in params]
    added = [
        (name, _plain(item))
        for name, value in params.items()
        for item in ([value] if isinstance(value, str | int | float) or value is None else value)
        if item is not None
    ]
    return "&".join([quote("&".join(kept), safe=_QUERY_SAFE), urlencode(added)]).strip("&")


def _plain(value: str | int | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
