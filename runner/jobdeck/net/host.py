"""One spelling for every way to write a host: a host name in ASCII, or an IP address."""

from __future__ import annotations

import re
import socket
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final, TypeAlias

import idna

from jobdeck.net.errors import InvalidUrl

IPAddress: TypeAlias = IPv4Address | IPv6Address

# RFC 1035 2.3.4: what fits into a DNS message.
_NAME_CHARS: Final = 253
_LABEL_CHARS: Final = 63
# The underscore is outside RFC 1123, and in use for service names on private networks.
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_NUMERIC_HOST: Final = re.compile(rf"(?:{_NUMBER.pattern})(?:\.(?:{_NUMBER.pattern})){{0,3}}")
# RFC 6761, 6762, 8375 and the private-use TLD: names that never lead to a public address.
_LOCAL_SUFFIXES: Final = ("localhost", "local", "internal", "home.arpa")


def canonical_host(text: str) -> str | IPAddress:
    """The host a resolver would see for `text`, so that one check covers all its spellings.

    `127.1`, `0x7f.1`, `2130706433` and `１２７．０．０．１` become `IPv4Address("127.0.0.1")`, because the
    system resolver reads them so; `[::1]` becomes `IPv6Address("::1")`; `MÜNCHEN.example.` becomes
    `xn--mnchen-3ya.example`. Raises InvalidUrl.
    """
    if text.startswith("[") or text.endswith("]") or ":" in text:
        return _bracketed(text)
    if not text.isascii():
        text = _to_ascii(text)
    name = text.lower().removesuffix(".")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _numeric(name)
    if len(name) > _NAME_CHARS:
        raise InvalidUrl(f"the host has {len(name):,} characters; a host name has at most {_NAME_CHARS}")
    for label in labels:
        if len(label) > _LABEL_CHARS:
            raise InvalidUrl(
                f"the host has a part of {len(label)} characters; "
                f"the parts between dots have at most {_LABEL_CHARS}"
            )
        if not _LABEL.fullmatch(label):
            raise InvalidUrl(
                f"the host {name[:80]!r} is not a host name or an IP address; write it like api.example.com"
            )
    return name


def is_local_name(name: str) -> bool:
    """Whether a canonical host name can only mean something on this machine or this network."""
    return "." not in name or any(name == end or name.endswith(f".{end}") for end in _LOCAL_SUFFIXES)


def format_host(host: str | IPAddress) -> str:
    """As it stands in a URL or a Host header: IPv6 in brackets."""
    return f"[{host}]" if isinstance(host, IPv6Address) else str(host)


def _bracketed(text: str) -> IPv6Address:
    inner = text.removeprefix("[").removesuffix("]")
    if text != f"[{inner}]":
        raise InvalidUrl("the host has brackets or colons out of place; write IPv6 like [2001:db8::1]")
    if "%" in inner:
        raise InvalidUrl("the IPv6 address names a zone; leave out the part from the % on")
    try:
        return IPv6Address(inner)
    except AddressValueError:
        raise InvalidUrl(f"{inner[:60]!r} is not an IPv6 address; write it like [2001:db8::1]") from None


def _to_ascii(text: str) -> str:
    # idna takes time growing with the square of the length for some input.
    if len(text) > _NAME_CHARS:
        raise InvalidUrl(f"the host has {len(text):,} characters; a host name has at most {_NAME_CHARS}")
    try:
        return idna.encode(text, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise InvalidUrl(f"the host {text[:60]!r} is not a valid international name: {error}") from None


def _numeric(name: str) -> IPv4Address:
    try:
        if not _NUMERIC_HOST.fullmatch(name):
            raise OSError
        return IPv4Address(socket.inet_aton(name))
    except OSError:
        raise InvalidUrl(f"the host {name[:60]!r} is not an IPv4 address; write it like 192.0.2.10") from None
