"""Which addresses an outbound request may go to: public ones, and what the server's configuration opens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_network,
)
from typing import Final, TypeAlias

from jobdeck.errors import ConfigError
from jobdeck.net.errors import BlockedAddress, InvalidUrl
from jobdeck.net.host import IPAddress, canonical_host, format_host

IPNetwork: TypeAlias = IPv4Network | IPv6Network

PUBLIC_PORTS: Final = frozenset({443, 8443})
"""Ports of public targets (the default port of https and its usual neighbour)."""

# The IANA special-purpose registries, held here because `is_global` differs between Python versions
# (100.64/10, 192.0.0.0/24, 3fff::/20, 6to4) and is True for multicast and fec0::/10.
_DENIED_V4: Final = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",  # carrier-grade NAT; holds 100.100.100.200, a cloud's metadata service
            "127.0.0.0/8",
            "168.63.129.16/32",  # a cloud's host agent on an address of the public range
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
        ),
    )
)
_DENIED_V6: Final = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
# The only block of IPv6 from which public unicast addresses are handed out (RFC 4291 2.4); everything
# else (fc00::/7, fe80::/10, fec0::/10, ff00::/8, ::/8 …) is closed by not being in it.
_GLOBAL_UNICAST_V6: Final = IPv6Network("2000::/3")

_COMPATIBLE: Final = IPv6Network("::/96")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_NAT64_LOCAL: Final = IPv6Network("64:ff9b:1::/48")
_ISATAP: Final = (0x0000_5EFE, 0x0200_5EFE)

# Opened only by an entry that names the network: an allowed host name alone never leads to a cloud's
# metadata service, to "this host" or to a group of hosts, whatever the name service answers.
_NEVER_BY_NAME: Final[tuple[IPNetwork, ...]] = (
    IPv4Network("0.0.0.0/8"),
    IPv4Network("100.100.100.200/32"),
    IPv4Network("168.63.129.16/32"),
    IPv4Network("169.254.0.0/16"),
    IPv4Network("192.0.0.192/32"),
    IPv4Network("224.0.0.0/4"),
    IPv4Network("240.0.0.0/4"),
    IPv6Network("::/128"),
    IPv6Network("fd00:ec2::254/128"),
    IPv6Network("fe80::/10"),
    IPv6Network("ff00::/8"),
)


def unwrap(address: IPAddress) -> tuple[IPAddress, ...]:
    """Where a packet to `address` can end: the IPv4 addresses embedded in it, else itself.

    Covers IPv4-mapped, IPv4-compatible, 6to4, Teredo (server and client), ISATAP and NAT64. Below the
    local NAT64 prefix (RFC 8215) the translator is this network's own, so both readings are returned.
    """
    if isinstance(address, IPv4Address):
        return (address,)
    low = IPv4Address(int(address) & 0xFFFF_FFFF)
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address.teredo is not None:
        return address.teredo
    if address.sixtofour is not None:
        return (address.sixtofour,)
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        return (low,)
    plain = IPv6Address(int(address))
    if address in _NAT64_LOCAL or (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP:
        return (plain, low)
    return (plain,)


def is_public(address: IPAddress) -> bool:
    """Whether `address` (already unwrapped) is a unicast address of the public internet."""
    if not address.is_global or address.is_multicast:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _DENIED_V4)
    return address in _GLOBAL_UNICAST_V6 and not any(address in network for network in _DENIED_V6)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One line of the allow-list; `port` None opens every port."""

    target: IPNetwork | str
    port: int | None

    def opens(self, address: IPAddress, port: int) -> bool:
        return (
            not isinstance(self.target, str)
            and address.version == self.target.version
            and address in self.target
            and self.port in (None, port)
        )


class AddressPolicy:
    """Public addresses over https on ports 443 and 8443, plus what `allow` opens.

    `allow` comes from the server's own configuration, never from a job. An entry is a network
    (`10.0.0.0/8`, `::1/128`), an address (`127.0.0.1`) or an exact host name (`internal.example`), each
    with a port (`127.0.0.1:8080`, `[::1]:8080`, `internal.example:8080`) or for all ports; it opens http
    as well as https. A host name opens whatever it resolves to, except metadata services, multicast and
    the like, which only a network entry opens. Raises ConfigError for an entry that is none of these.
    """

    def __init__(self, allow: Sequence[str] = ()) -> None:
        if isinstance(allow, str):
            raise ConfigError("the http allow-list is a list of entries, not one text")
        entries = [_parse_entry(text) for text in allow]
        self._names = frozenset((entry.target, entry.port) for entry in entries)
        self._networks = tuple(entry for entry in entries if not isinstance(entry.target, str))

    def opens_name(self, host: str, port: int) -> bool:
        """Whether an entry names this host name (canonical spelling) for this port."""
        return (host, None) in self._names or (host, port) in self._names

    def opens_address(self, address: IPAddress, port: int) -> bool:
        """Whether entries open `address` for this port, in all the readings of `unwrap`."""
        return self._networks != () and all(
            any(entry.opens(reading, port) for entry in self._networks) for reading in unwrap(address)
        )

    def may_open(self, port: int) -> bool:
        """Whether some network entry opens this port, so that only the resolved address can decide."""
        return any(entry.port in (None, port) for entry in self._networks)

    def check(self, address: IPAddress, *, host: str, port: int, secure: bool) -> None:
        """Raise BlockedAddress unless a request to `host` may be sent to `address`:`port`.

        `host` is the canonical name (or the address as text), `secure` is True for https.
        """
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            raise BlockedAddress(f"{host} leads to the link-local address {address}, which cannot be opened")
        named = self.opens_name(host, port)
        for reading in unwrap(address):
            if any(entry.opens(reading, port) for entry in self._networks):
                continue
            if named and not any(_inside(reading, network) for network in _NEVER_BY_NAME):
                continue
            self._check_public(address, reading, host, port, secure)

    @staticmethod
    def _check_public(address: IPAddress, reading: IPAddress, host: str, port: int, secure: bool) -> None:
        shown = str(address) if reading == address else f"{address} (which means {reading})"
        target = shown if host == str(address) else f"{host} leads to {shown}, which"
        if not is_public(reading):
            raise BlockedAddress(
                f"{target} is not a public address; a private target must be listed under [http] allow "
                "in the server's configuration"
            )
        if not secure or port not in PUBLIC_PORTS:
            raise BlockedAddress(
                f"{target} is a public address; use https on port 443 or 8443, or list "
                f"{format_host(address)}:{port} under [http] allow in the server's configuration"
            )


def _inside(address: IPAddress, network: IPNetwork) -> bool:
    return address.version == network.version and address in network


def _parse_entry(text: str) -> _Entry:
    """`TARGET` or `TARGET:PORT`; an IPv6 target with a port stands in brackets."""
    target, port = text.strip(), None
    if target.count(":") == 1 or "]:" in target:
        target, _, digits = target.rpartition(":")
        if not re.fullmatch(r"[0-9]{1,5}", digits) or not 1 <= int(digits) <= 65_535:
            raise _not_an_entry(text)
        port = int(digits)
    target = target.removeprefix("[").removesuffix("]")
    try:
        return _Entry(ip_network(target), port)
    except ValueError as error:
        if "has host bits set" in str(error):
            network = ip_network(target, strict=False)
            raise ConfigError(f"{text!r} in the http allow-list: did you mean {network}?") from None
    try:
        host = canonical_host(target)
    except InvalidUrl:
        raise _not_an_entry(text) from None
    if not isinstance(host, str):
        raise _not_an_entry(text)
    return _Entry(host, port)


def _not_an_entry(text: str) -> ConfigError:
    return ConfigError(
        f"{text!r} in the http allow-list is not an entry; write a network (10.0.0.0/8), an address "
        "(127.0.0.1) or a host name (internal.example), with :PORT (1-65535) if it is for one port only"
    )
