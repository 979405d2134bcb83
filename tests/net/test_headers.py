"""Which headers a caller may set (reliability S5; case S14)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobdeck.net import HEADER_BYTES, HEADERS, InvalidRequest, check_headers

FORBIDDEN = [
    "Host",
    "host",
    "Content-Length",
    "Transfer-Encoding",
    "TE",
    "Connection",
    "Keep-Alive",
    "Upgrade",
    "Trailer",
    "Expect",
    "Accept-Encoding",
    "Proxy-Authorization",
    "Proxy-Connection",
    "Webhook-Id",
    "webhook-signature",
    "webhook-timestamp",
    "HTTP2-Settings",
]


@pytest.mark.parametrize("name", FORBIDDEN)
def test_a_header_of_the_client_is_refused(name: str) -> None:
    """Framing, routing and signature headers cannot be set by a job."""
    with pytest.raises(InvalidRequest, match="set by jobdeck itself"):
        check_headers({name: "x"})


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "a:b", "a\r\nHost", "a\nb", "a\x00", "é", ":authority", "a\t", "(a)", "x" * 9_000 + ":"],
)
def test_a_name_that_is_no_token(name: str) -> None:
    """A name outside RFC 9110's token is refused, in a short message."""
    with pytest.raises(InvalidRequest, match="not a header name") as caught:
        check_headers({name: "x"})
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "value", ["a\r\nHost: b", "a\n", "a\rb", "a\x00b", "a\x1bb", "a\x7fb", "é", "a\u2028b", "\x85"]
)
def test_a_value_that_could_split_the_head(value: str) -> None:
    """Line breaks, control characters and anything outside ASCII are refused; the value is not repeated."""
    with pytest.raises(InvalidRequest, match="header X-Token") as caught:
        check_headers({"X-Token": f"secret{value}"})
    assert "secret" not in str(caught.value)


def test_limits() -> None:
    """32 headers and 8 KiB are the most, and both sides of each limit are exact."""
    assert len(check_headers({f"X-{n}": "v" for n in range(HEADERS)})) == HEADERS
    with pytest.raises(InvalidRequest, match="33 headers"):
        check_headers({f"X-{n}": "v" for n in range(HEADERS + 1)})
    fits = {"X": "v" * (HEADER_BYTES - 5)}
    assert check_headers(fits)
    with pytest.raises(InvalidRequest, match="8,193 bytes"):
        check_headers({"X": fits["X"] + "v"})
    with pytest.raises(InvalidRequest, match="bytes"):
        check_headers({"X": "v" * 1_000_000})


def test_twice() -> None:
    """A mapping can hold one header in two spellings; only one would be meant."""
    with pytest.raises(InvalidRequest, match="twice"):
        check_headers({"X-A": "1", "x-a": "2"})


def test_kept_in_order_and_trimmed() -> None:
    """What passes is sent as written, without the blanks around a value, which have no meaning."""
    assert check_headers({"Authorization": "Bearer x ", "X-B": "\ta b"}) == [
        ("Authorization", "Bearer x"),
        ("X-B", "a b"),
    ]


@given(st.dictionaries(st.text(max_size=12), st.text(max_size=20), max_size=5))
def test_what_passes_is_one_line_each(headers: dict[str, str]) -> None:
    """Whatever is given, the lines that come out cannot be read as anything but that many headers."""
    try:
        checked = check_headers(headers)
    except InvalidRequest:
        return
    wire = "".join(f"{name}: {value}\r\n" for name, value in checked)
    lines = wire.encode("ascii").split(b"\r\n")[:-1]
    assert len(lines) == len(headers)
    for line in lines:
        assert re.fullmatch(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t\x20-\x7e]*", line)
        name = line.split(b":")[0].decode().lower()
        assert name not in {forbidden.lower() for forbidden in FORBIDDEN}
        assert not name.startswith(("proxy-", "webhook-"))


@given(st.binary(min_size=1, max_size=20))
def test_any_byte_of_a_value(data: bytes) -> None:
    """A value passes exactly when all its bytes are printable ASCII or a tab."""
    allowed = all(byte == 9 or 0x20 <= byte <= 0x7E for byte in data)
    try:
        check_headers({"X": data.decode("latin-1")})
    except InvalidRequest:
        assert not allowed
    else:
        assert allowed
