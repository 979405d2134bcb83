"""Which URLs may be requested (reliability S1, S3; case S01)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobdeck.errors import ValidationError
from jobdeck.net import AddressPolicy, BlockedAddress, CheckedUrl, GuardedClient, InvalidUrl, check_url
from jobdeck.net.host import canonical_host

from .conftest import FakeResolver, RecordingDialer

STRICT = AddressPolicy()

# How people and attackers write addresses that are not public: every one is refused before any look-up.
CLOSED_HOSTS = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "127.0.0.1.",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0X7F.0x0.0x0.0x1",
    "017700000001",
    "0177.0.0.1",
    "0",
    "0.0.0.0",
    "00",
    "0x0",
    "127。0。0。1",
    "127.0.0。1",
    "127｡0｡0｡1",
    "\uff11\uff12\uff17\uff0e\uff10\uff0e\uff10\uff0e\uff11",
    "①②⑦.⓪.⓪.①",
    "\uff12\uff11\uff13\uff10\uff17\uff10\uff16\uff14\uff13\uff13",
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "169.16689662",
    "100.100.100.200",
    "10.0.0.1",
    "172.16.5.4",
    "192.168.1.1",
    "168.63.129.16",
    "224.0.0.1",
    "255.255.255.255",
    "[::]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:169.254.169.254]",
    "[::127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::a9fe:a9fe]",
    "[2002:a9fe:a9fe::1]",
    "[2001:0:a9fe:a9fe::]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[fec0::1]",
    "[ff0e::1]",
    "localhost",
    "LOCALHOST.",
    "api.localhost",
    "metadata",
    "metadata.google.internal",
    "instance-data.ec2.internal",
    "printer.local",
    "router.home.arpa",
    "ⓛocalhost",
]


@pytest.mark.parametrize("host", CLOSED_HOSTS)
async def test_a_private_target_is_refused_and_nothing_is_dialled(host: str) -> None:
    """Every spelling of a private target is refused at the check and at the request, without a look-up."""
    resolver, dialer = FakeResolver(["8.8.8.8"]), RecordingDialer()
    async with GuardedClient(STRICT, resolver=resolver, dialer=dialer) as client:
        for url in (f"https://{host}/", f"https://{host}:8443/x?y=1"):
            with pytest.raises(BlockedAddress, match=r"not a public address|private network"):
                client.check(url)
            with pytest.raises(BlockedAddress):
                await client.request("GET", url)
    assert (resolver.asked, dialer.dialled) == ([], [])


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://api.example.com/", "use https://"),
        ("HTTP://api.example.com/", "use https://"),
        ("ftp://api.example.com/", "does not start with https://"),
        ("file:///etc/passwd", "does not start with https://"),
        ("gopher://127.0.0.1:6379/_x", "does not start with https://"),
        ("//api.example.com/", "does not start with https://"),
        ("api.example.com", "does not start with https://"),
        ("", "does not start with https://"),
        ("https:api.example.com", "has no host"),
        ("https:///path", "has no host"),
        ("https://:443/", "has no host"),
        ("https://user@api.example.com/", "user name or password"),
        ("https://user:secret@api.example.com/", "user name or password"),
        ("https://api.example.com@evil.example/", "user name or password"),
        ("https://@api.example.com/", "user name or password"),
        ("https://api.example.com/#part", "fragment"),
        ("https://api.example.com#@evil.example/", "fragment"),
        ("https://api.example.com/#", "fragment"),
        ("https://api.example.com:0/", "not a port"),
        ("https://api.example.com:65536/", "not a port"),
        ("https://api.example.com:99999/", "not a port"),
        ("https://api.example.com:/", "not a port"),
        ("https://api.example.com:+443/", "not a port"),
        ("https://api.example.com:\uff14\uff14\uff13/", "not a port"),
        ("https://api.example.com:000443/", "not a port"),
        ("https://api.example.com:443:443/", "out of place"),
        ("https://api.example.com:22/", "port 22 is not open"),
        ("https://api.example.com:80/", "port 80 is not open"),
        ("https://8.8.8.8:8080/", "port 8080 is not open"),
        ("https://a..b/", "not a host name"),
        ("https://.example.com/", "not a host name"),
        ("https://-a.example.com/", "not a host name"),
        ("https://*.example.com/", "not a host name"),
        ("https://exa%6dple.com/", "not a host name"),
        ("https://example.com../", "not a host name"),
        ("https://256.1.1.1/", "not an IPv4 address"),
        ("https://1.2.3.4.5/", "not an IPv4 address"),
        ("https://08.1.1.1/", "not an IPv4 address"),
        ("https://example.0x1/", "not an IPv4 address"),
        ("https://[::1%25eth0]/", "zone"),
        ("https://[::1/", "cannot be read"),
        ("https://[gggg::1]/", "not an IPv6 address|cannot be read"),
        ("https://2001:db8::1/", "out of place"),
        ("https://a_b.é/", "international name"),
        ("https://example.com\\@evil.example/", r"character '\\\\'"),
        ("https://example.com /", "character ' '"),
        (" https://example.com/", "character ' '"),
        ("https://exam\nple.com/", r"character '\\n'"),
        ("https://example.com/a\r\nX: y", r"character '\\r'"),
        ("https://example.com/\x00", r"character '\\x00'"),
        ("https://example.com/\ud800", "character"),
        ("https://" + "a" * 64 + ".com/", "at most 63"),
        ("https://" + "a." * 126 + "com/", "at most 253"),
        ("https://" + "é" * 300 + ".com/", "at most 253"),
        ("https://example.com/" + "a" * 8_192, "at most 8,192"),
    ],
)
def test_a_url_that_breaks_a_rule(url: str, says: str) -> None:
    """Each broken rule is named, as a validation error whose message holds no credential."""
    with pytest.raises(InvalidUrl, match=says) as caught:
        check_url(url, STRICT)
    assert isinstance(caught.value, ValidationError)
    assert (caught.value.code, caught.value.exit_code) == ("invalid_url", 2)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("https://api.example.com", "https://api.example.com/"),
        (
            "HTTPS://API.Example.COM./A/../b?q=a b&x=é".replace(" ", "%20"),
            "https://api.example.com/A/../b?q=a%20b&x=%C3%A9",
        ),
        ("https://api.example.com:443/", "https://api.example.com/"),
        ("https://api.example.com:8443/", "https://api.example.com:8443/"),
        ("https://münchen.example/ü", "https://xn--mnchen-3ya.example/%C3%BC"),
        ("https://exa\u200bmple.com/", "https://example.com/"),
        ("https://8.8.8.8/", "https://8.8.8.8/"),
        ("https://134744072/", "https://8.8.8.8/"),
        ("https://[2606:4700:4700:0::1111]/", "https://[2606:4700:4700::1111]/"),
        ("https://my_service.example.com/", "https://my_service.example.com/"),
        ("https://api.example.com?x=1", "https://api.example.com/?x=1"),
        ("https://api.example.com//double", "https://api.example.com//double"),
        ("https://api.example.com/a%2Fb%zz", "https://api.example.com/a%2Fb%zz"),
    ],
)
def test_canonical(url: str, canonical: str) -> None:
    """One target has one spelling, which is a fixed point."""
    checked = check_url(url, STRICT)
    assert str(checked) == canonical
    assert check_url(canonical, STRICT) == checked


def test_params_are_merged() -> None:
    """Params join the query of the URL and replace a name that is in both."""
    checked = check_url(
        "https://api.example.com/x?keep=1&page=1", STRICT, params={"page": 2, "tag": ["a", "b c"], "on": True}
    )
    assert checked.target == "/x?keep=1&page=2&tag=a&tag=b+c&on=true"
    cursor = "https://api.example.com/x?c=%ff~a%2Fb+c=&flag"
    assert check_url(cursor, STRICT, params={"n": 1.5, "none": None}).target == "/x?c=%ff~a%2Fb+c=&flag&n=1.5"
    assert check_url(cursor, STRICT, params={"c": None, "flag": [None]}).target == "/x"


def test_params_count_for_the_limit() -> None:
    """A URL that only params make too long is refused as well, and so is text that is no text."""
    with pytest.raises(InvalidUrl, match="at most"):
        check_url("https://api.example.com/", STRICT, params={"x": "a" * 8_192})
    with pytest.raises(InvalidUrl, match="surrogate"):
        check_url("https://api.example.com/", STRICT, params={"x": "\ud800"})


def test_the_allow_list_opens_http_and_ports() -> None:
    """An entry opens http and every port of its target, a literal as well as a name."""
    policy = AddressPolicy(["127.0.0.1/32", "internal.example", "münchen.example:81"])
    assert str(check_url("http://127.1:8080/x", policy)) == "http://127.0.0.1:8080/x"
    assert check_url("http://[::ffff:127.0.0.1]/", policy).port == 80
    assert check_url("http://INTERNAL.example.:9/", policy).authority == "internal.example:9"
    assert check_url("http://münchen.example:81/", policy).host == "xn--mnchen-3ya.example"
    with pytest.raises(BlockedAddress):
        check_url("https://127.0.0.2/", policy)
    with pytest.raises(InvalidUrl):
        check_url("http://8.8.8.8/", policy)


def test_without_a_network_entry_a_name_is_judged_by_its_spelling() -> None:
    """http, another port or a private name cannot become right at connect, so they are refused at once."""
    policy = AddressPolicy(["internal.example:8080", "10.0.0.0/8:81"])
    for url in ("http://db.example/", "https://db.example:82/"):
        with pytest.raises(InvalidUrl):
            check_url(url, policy)
    with pytest.raises(BlockedAddress):
        check_url("https://db/", policy)
    assert check_url("http://db:81/", policy) == CheckedUrl("http", "db", 81, "/")


@given(st.text(max_size=40))
def test_any_text_is_a_url_or_a_clear_error(text: str) -> None:
    """No input ends in another exception, and what passes is plain ASCII without surprises."""
    for url in (text, f"https://{text}", f"https://example.com{text}", f"https://{text}/x"):
        try:
            checked = check_url(url, STRICT)
        except (InvalidUrl, BlockedAddress):
            continue
        shown = str(checked)
        assert shown.isascii()
        assert shown.isprintable()
        assert " " not in shown
        assert check_url(shown, STRICT) == checked


@given(st.text(alphabet="0123456789abcdefx.[]:%。①0-", max_size=24))
def test_a_host_that_looks_like_an_address_has_one_meaning(text: str) -> None:
    """What comes out is an address, or a name that no resolver reads as an address."""
    try:
        host = canonical_host(text)
    except InvalidUrl:
        return
    if isinstance(host, str):
        last = host.rsplit(".", 1)[-1]
        assert not last.isdigit()
        assert not last.startswith("0x") or not all(c in "0123456789abcdef" for c in last[2:])
        assert canonical_host(host) == host
