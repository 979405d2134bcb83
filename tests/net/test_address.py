"""Which addresses are public, and what the allow-list opens (reliability S1)."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobdeck.errors import ConfigError
from jobdeck.net import AddressPolicy, BlockedAddress
from jobdeck.net.address import is_public, unwrap
from jobdeck.net.host import IPAddress

CLOSED = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.9",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.7",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::10.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::7f00:1",
    "64:ff9b:1::a9fe:a9fe",
    "64:ff9b:1::808:808",
    "64:ff9b:1:a9fe:a9:fe00::",
    "100::1",
    "2001::1",
    "2001:0:a9fe:a9fe::",
    "2001:2::1",
    "2001:10::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::1",
    "2606:4700::5efe:a9fe:a9fe",
    "2606:4700::200:5efe:10.0.0.1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]
OPEN = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "100.63.255.255",
    "100.128.0.1",
    "172.15.255.255",
    "172.32.0.1",
    "192.0.1.1",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2a00:1450:4001:81b::200e",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
]


def permits(
    policy: AddressPolicy, address: str, *, host: str = "", port: int = 443, secure: bool = True
) -> bool:
    try:
        policy.check(ipaddress.ip_address(address), host=host or address, port=port, secure=secure)
    except BlockedAddress:
        return False
    return True


@pytest.mark.parametrize("address", CLOSED)
def test_closed(address: str) -> None:
    """An address that is not public, or that embeds one, is closed by default, in any Python version."""
    assert not permits(AddressPolicy(), address)


@pytest.mark.parametrize("address", OPEN)
def test_open(address: str) -> None:
    """A public address is open over https on 443 and 8443, and on nothing else."""
    policy = AddressPolicy()
    assert permits(policy, address)
    assert permits(policy, address, port=8443)
    assert not permits(policy, address, port=80)
    assert not permits(policy, address, secure=False)


@given(st.ip_addresses(v=4))
def test_every_embedding_is_judged_as_the_ipv4_address_in_it(inner: ipaddress.IPv4Address) -> None:
    """No IPv6 form that carries an IPv4 address is more open than that address."""
    number = int(inner)
    for base in (0xFFFF << 32, 0x64_FF9B << 96, 0):
        outer = ipaddress.IPv6Address(base | number)
        if number > 1:
            assert unwrap(outer) == (inner,)
            assert permits(AddressPolicy(), str(outer)) == is_public(inner)
    six_to_four = ipaddress.IPv6Address(0x2002 << 112 | number << 80)
    assert unwrap(six_to_four) == (inner,)
    teredo = ipaddress.IPv6Address(0x2001_0000 << 96 | 0x0808_0808 << 64 | (number ^ 0xFFFF_FFFF))
    assert unwrap(teredo) == (ipaddress.IPv4Address("8.8.8.8"), inner)


@given(st.ip_addresses())
def test_public_is_never_wider_than_the_registry(address: IPAddress) -> None:
    """Whatever the library calls private, multicast, loopback, link-local or reserved is closed."""
    if address.is_private or address.is_multicast or address.is_link_local or address.is_unspecified:
        assert not is_public(address)


@pytest.mark.parametrize(
    ("entry", "address", "port"),
    [
        ("127.0.0.1", "127.0.0.1", 1),
        ("127.0.0.1/32", "::ffff:127.0.0.1", 9000),
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("10.0.0.0/8", "10.200.3.4", 80),
        ("10.0.0.0/8:81", "64:ff9b::10.1.2.3", 81),
        ("::1/128", "::1", 5000),
        ("[::1]:5000", "::1", 5000),
        ("[fd00::/8]:5000", "fd12::1", 5000),
        ("169.254.169.254/32", "169.254.169.254", 80),
        ("0.0.0.0/0", "192.168.1.1", 22),
    ],
)
def test_an_entry_opens_its_network(entry: str, address: str, port: int) -> None:
    """A network entry opens http and https on its port, or on all ports."""
    policy = AddressPolicy([entry])
    assert permits(policy, address, port=port, secure=False)
    assert permits(policy, address, port=port)


@pytest.mark.parametrize(
    ("entry", "address", "port"),
    [
        ("127.0.0.1/32", "127.0.0.2", 80),
        ("127.0.0.1:8080", "127.0.0.1", 8081),
        ("10.0.0.0/8", "11.0.0.1", 80),
        ("10.0.0.0/8", "2001:0:ac10:101:0:0:f5ff:fffe", 80),
        ("::1/128", "127.0.0.1", 80),
        ("0.0.0.0/0", "::1", 80),
        ("64:ff9b:1::/48", "64:ff9b:1::a9fe:a9fe", 443),
    ],
)
def test_an_entry_opens_nothing_else(entry: str, address: str, port: int) -> None:
    """Another address or port stays closed; of several embedded addresses all must be opened.

    The Teredo address has client 10.0.0.1 but server 172.16.1.1, and an entry for a local NAT64 prefix does
    not open the private address behind it.
    """
    policy = AddressPolicy([entry])
    assert not permits(policy, address, port=port, secure=port == 443)


def test_a_local_nat64_prefix_can_be_opened_for_public_targets() -> None:
    """With the prefix in the list, its public targets follow the public rules."""
    policy = AddressPolicy(["64:ff9b:1::/48"])
    assert permits(policy, "64:ff9b:1::808:808")
    assert not permits(policy, "64:ff9b:1::808:808", secure=False)


def test_a_name_opens_what_it_resolves_to_but_never_metadata() -> None:
    """An allowed name may be private; a name service cannot lead it to a metadata service or to `any`."""
    policy = AddressPolicy(["Internal.Example", "other.example:8080"])
    assert permits(policy, "10.0.0.5", host="internal.example", port=80, secure=False)
    assert permits(policy, "8.8.8.8", host="internal.example", port=80, secure=False)
    assert permits(policy, "127.0.0.1", host="other.example", port=8080, secure=False)
    assert not permits(policy, "127.0.0.1", host="other.example", port=8081, secure=False)
    assert not permits(policy, "10.0.0.5", host="sub.internal.example")
    for address in (
        "169.254.169.254",
        "fd00:ec2::254",
        "0.0.0.0",
        "100.100.100.200",
        "::ffff:169.254.169.254",
    ):
        assert not permits(policy, address, host="internal.example")


def test_a_scoped_address_is_refused() -> None:
    """A zone picks an interface of this machine; no list opens that."""
    assert not permits(AddressPolicy(["fe80::/10"]), "fe80::1%lo")


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("10.0.0.1/8", "did you mean 10.0.0.0/8"),
        ("10.0.0.0/33", "is not an entry"),
        ("*.example.com", "is not an entry"),
        ("", "is not an entry"),
        ("https://internal.example", "is not an entry"),
        ("127.1", "is not an entry"),
        ("internal.example:0", "is not an entry"),
        ("internal.example:65536", "is not an entry"),
        ("[::1]:http", "is not an entry"),
    ],
)
def test_a_wrong_entry_is_refused(entry: str, says: str) -> None:
    """A typing error in the configuration is told at start, not ignored."""
    with pytest.raises(ConfigError, match=says):
        AddressPolicy([entry])


def test_one_text_is_not_a_list() -> None:
    """`allow = "127.0.0.1"` would else be read letter by letter."""
    with pytest.raises(ConfigError, match="list"):
        AddressPolicy("127.0.0.1")
