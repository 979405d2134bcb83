"""What is masked: every form of a value that is known, pieces of it where a text is cut, and what has a secret name."""

from __future__ import annotations

import base64
import json
import re
import time
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobdeck.errors import ValidationError
from jobdeck.secret import masked, redact, redaction, remember, withheld
from jobdeck.secret.names import is_sensitive

MASK = "********"
VALUE = 'pa55 wörd/+"with\\teeth" & more?'
TOKEN = "f3a9c1d27b604e58a1b2c3d4"


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins with nothing known, and leaves nothing."""
    monkeypatch.setattr(redaction, "_known", redaction.NOTHING)


def test_url_encodings_are_masked() -> None:
    """Percent-encoded with digits of either case, and as a form does it."""
    remember(VALUE)
    for form in (quote(VALUE, safe=""), quote(VALUE), quote_plus(VALUE)):
        lower = re.sub("%..", lambda found: found[0].lower(), form)
        assert redact(f"<{form}>") == redact(f"<{lower}>") == f"<{MASK}>"


@given(before=st.binary(max_size=7), after=st.binary(max_size=7))
def test_base64_is_masked_wherever_in_it_the_value_stands(before: bytes, after: bytes) -> None:
    """`Basic` credentials are the base64 of name and password together: nothing of the password can be decoded."""
    remember(TOKEN)
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        shown = redact(encode(before + TOKEN.encode() + after).decode())
        assert MASK in shown
        left = "".join(part for part in shown.split(MASK))
        assert len(left) <= len(base64.b64encode(before + after)) + 8


def test_json_in_json_is_masked() -> None:
    """As JSON and Python escape it, and that within JSON again and again."""
    remember(VALUE)
    for form in (json.dumps(VALUE), json.dumps(VALUE, ensure_ascii=False), repr(VALUE)):
        for _ in range(4):
            assert "55" not in redact(form), form
            assert "teeth" not in redact(form), form
            form = json.dumps({"in": form})


@given(cut=st.integers(1, len(TOKEN) - 1))
def test_a_value_cut_in_two_shows_less_than_a_piece(cut: int) -> None:
    """Two lines, or a text with the mark of a cut: of neither half more than seven characters stay."""
    remember(TOKEN)
    first, second = f"key {TOKEN[:cut]}", f"{TOKEN[cut:]} and on"
    for text in (first, second, f"{first}… (cut)", f"…{second}"):
        shown = redact(text, cut=True)
        assert not any(TOKEN[at : at + 8] in shown for at in range(len(TOKEN) - 7)), shown
    assert redact(TOKEN[4:20], cut=True) == MASK


def test_a_short_value_cut_in_half() -> None:
    """Of nine characters at least five stand on one side, and those are masked."""
    remember("abcdefghi")
    halves = [
        (redact("abcdefghi"[:cut], cut=True), redact("abcdefghi"[cut:], cut=True)) for cut in range(1, 9)
    ]
    assert all(MASK in pair for pair in halves)


def test_what_only_looks_like_a_piece_stays() -> None:
    """An address begins like any other; a whole text is not looked at for pieces; short beginnings are words."""
    remember("https://hooks.example.com/services/T000/B000/f3a9c1d27b60")
    remember("production-password")
    assert redact("see https://hooks.example.com", cut=True) == "see https://hooks.example.com"
    assert masked({"env": "production"}) == {"env": "production"}
    assert redact("in prod", cut=True) == "in prod"


def test_the_secret_parts_of_an_address() -> None:
    """The password of a database and the path and query of a webhook, each by itself."""
    remember("postgresql://sync:p%40ss-word@db/warehouse")
    remember("https://hooks.example.com/services/T000/B000?sig=f3a9c1d27b604e58")
    for text in ("p%40ss-word", "p@ss-word", "/services/T000/B000", "f3a9c1d27b604e58"):
        assert redact(f"<{text}>") == f"<{MASK}>"
    assert redact("warehouse db hooks.example.com") == "warehouse db hooks.example.com"


@pytest.mark.parametrize(
    "name",
    ["password", "PASSWORD", "db_password", "smtpPassword", "passwd", "pwd", "passphrase", "secret",
     "client_secret", "clientSecret", "token", "access_token", "accessToken", "id-token", "X-Auth-Token", "api_key",
     "apiKey", "APIKey", "X-Api-Key", "apikey", "private_key", "secretAccessKey", "aws_secret_access_key",
     "Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "cookies", "credentials", "jwt",
     "JOBDECK_SECRET_CRM", "password2"],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    """In whatever style they are written."""
    assert is_sensitive(name)
    assert masked({name: "hunter2"}) == {name: MASK}


@pytest.mark.parametrize(
    "name",
    ["token_count", "tokens", "prompt_tokens", "max_tokens", "next_page_token", "continuationToken", "syncToken",
     "token_type", "secret_name", "password_changed_at", "key", "primary_key", "monkey", "keyboard", "author",
     "secretary",     "authorized", "cookie_banner", "compass", "", "7", "_"],
)  # fmt: skip
def test_names_that_only_sound_like_it(name: str) -> None:
    """Counts, marks of pages, and what speaks of a secret without being one."""
    assert not is_sensitive(name)
    assert masked({name: "hunter2"}) == {name: "hunter2"}


def test_what_stands_under_the_name_of_a_secret() -> None:
    """Texts, numbers and whole tables; not what is empty or only refers to one."""
    given = {
        "token": 12345,
        "cookies": {"a": "b"},
        "secrets": ["a"],
        "nested": [{"password": "x", "user": "me"}],
        "api_key": "secret://CRM",
        "headers": {"Authorization": "Bearer secret://CRM"},
        "secret": None,
        "pwd": "",
        "passwords": [],
        "has_password": True,
    }
    assert masked(given) == given | {
        "token": MASK,
        "cookies": MASK,
        "secrets": MASK,
        "nested": [{"password": MASK, "user": "me"}],
    }
    assert masked({"token": "x"}, by_name=False) == {"token": "x"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET https://h/x?api_key=abc&page=2&token=d", f"GET https://h/x?api_key={MASK}&page=2&token={MASK}"),
        ("postgresql://me:hunter2@db:5432/x refused", f"postgresql://me:{MASK}@db:5432/x refused"),
        ("redis://:hunter2@cache", f"redis://:{MASK}@cache"),
        ("host=db user=me password=hunter2 dbname=x", f"host=db user=me password={MASK} dbname=x"),
        ("export API_KEY=abc", f"export API_KEY={MASK}"),
        ("> Authorization: Bearer abc.def", f"> Authorization: {MASK}"),
        ("curl -H 'Authorization: Bearer abc' https://h", f"curl -H 'Authorization: {MASK}' https://h"),
        ("sent Bearer eyJhbGciOiJIUzI1NiJ9.e30", f"sent Bearer {MASK}"),
        ("Set-Cookie: sid=abc; Path=/\nDate: now", f"Set-Cookie: {MASK}\nDate: now"),
        ("X-Api-Key: 0123456789", f"X-Api-Key: {MASK}"),
        ('{"access_token": "abc", "expires_in": 3}', f'{{"access_token": "{MASK}", "expires_in": 3}}'),
        (r"body {\"password\":\"a\\\"b\"}", rf"body {{\"password\":\"{MASK}\"}}"),
        ("{'password': 'hunter2', 'n': 1}", f"{{'password': '{MASK}', 'n': 1}}"),
    ],
)
def test_named_secrets_in_texts(text: str, shown: str) -> None:
    """In URLs, connection strings, headers, JSON and what Python prints."""
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "unexpected token: ';' at line 3",
        "token=params.token.reveal(), user=user)",
        "login(password=password)",
        "authorization: failed for user me",
        "Basic authentication required",
        "password authentication failed for user me",
        "https://h/list?next_page_token=abc&page=2",
        "postgresql://me@db/x and https://h:8443/a:b@c",
        '{"usage": {"prompt_tokens": 12}, "token_type": "bearer"}',
        "JOBDECK_SECRET_CRM is not set where this worker runs",
        "Authorization: Bearer secret://CRM",
        "cookie: consent is asked for",
        "X-Request-Id: 0123456789",
    ],
)
def test_texts_that_stay(text: str) -> None:
    """Messages about secrets, source code, references and marks of pages."""
    assert redact(text) == text


@pytest.mark.parametrize(
    "text",
    ["\\" * 60_000, "?a=" * 20_000, '"token":"' * 7_000, "://a:" * 12_000, "x-key " * 10_000, "token=" * 10_000,
     "'a':\"" * 12_000, "bearer " * 9_000, "authorization:" * 4_500],
)  # fmt: skip
def test_no_text_costs_much_time(text: str) -> None:
    """64 KiB that a hostile server has written for the patterns take no longer than a moment."""
    began = time.process_time()
    redact(text + "token")
    assert time.process_time() - began < 1.0


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.just(f"<{TOKEN}>"),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
        max_leaves=12,
    )
)
def test_no_value_is_left_in_any_json(value: Any) -> None:
    """Wherever in it the value stands."""
    remember(TOKEN)
    assert TOKEN not in json.dumps(masked(value))
    assert TOKEN not in json.dumps(masked(value, by_name=False))


def test_what_is_handed_on_gets_the_reference_again() -> None:
    """A value as a whole becomes the reference it came from; inside of a longer text it is refused, unsaid."""
    remember(TOKEN, "secret://CRM")
    assert withheld({"a": [TOKEN, 1], "b": ("x",)}, what="params") == {"a": ["secret://CRM", 1], "b": ("x",)}
    with pytest.raises(ValidationError, match="hand on secret://NAME") as caught:
        withheld({"a": f"Bearer {TOKEN}"}, what="params")
    assert TOKEN not in str(caught.value)


def test_a_value_of_many_escapes_costs_little() -> None:
    """Runs of backslashes in value and text can be matched in one way only."""
    remember("path " + "\\" * 20 + 'a"' * 20)
    began = time.process_time()
    redact("path " + "\\" * 60_000 + 'a\\"' * 200)
    assert time.process_time() - began < 1.0
