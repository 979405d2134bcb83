"""Text of strangers: whatever it was, what comes out cannot move a cursor, hide a letter or fill a screen."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobdeck.text import clean, cut_bytes, quoted

EMOJI = ["\U0001f468", "\U0001f469", "\U0001f4bb", "\u2764", "\ufe0f", "\u200d"]
anything = st.text(alphabet=st.characters(exclude_categories=[]), max_size=80)
emoji = st.lists(st.sampled_from([*EMOJI, "a", "\x1b", "\u0301", "…"]), max_size=40).map("".join)
nasty = st.one_of(anything, emoji)
DANGEROUS = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def offenders(text: str, *, lines: bool = False) -> list[str]:
    """Characters that a terminal could obey or that hide; a joiner inside emoji and a wanted line break are none."""
    found = []
    for index, char in enumerate(text):
        if char == "\n" and lines:
            continue
        if unicodedata.category(char) not in DANGEROUS:
            continue
        inside = 0 < index < len(text) - 1 and text[index - 1] in EMOJI and text[index + 1] in EMOJI
        if not (char == "\u200d" and inside):
            found.append(f"{index}: {char!r}")
    return found


def is_emoji_world(text: str) -> bool:
    """Joiners between emoji that this test does not list are not judged here."""
    return all(char in EMOJI or ord(char) < 0x2190 or char == "…" for char in text)


@given(nasty, st.booleans())
@example("a\x1b[31m\x9b2J\x00\x7f\u202e\u2028\u2029\ud800\ue000\U000e0041\ufeff\u200b\u061c\u2066", False)
@example("\r\n\x0b\x0c\x1c\x85", True)
def test_nothing_dangerous_survives(text: str, lines: bool) -> None:
    """No control, format, surrogate, private, unassigned or separator character is left, in either mode."""
    shown = clean(text, lines=lines)
    if "\u200d" not in shown or is_emoji_world(shown):
        assert offenders(shown, lines=lines) == []
    assert "\t" not in shown
    assert lines or "\n" not in shown
    shown.encode()


@given(nasty, st.booleans())
def test_cleaning_twice_is_cleaning_once(text: str, lines: bool) -> None:
    """At write and again at render: the second time changes nothing."""
    once = clean(text, lines=lines)
    assert clean(once, lines=lines) == once


@given(nasty, st.integers(min_value=1, max_value=30), st.booleans())
@example("\U0001f468\u200d\U0001f469" * 20, 5, False)
@example("\x1b" * 30, 6, False)
@example("\x1b\U0001f468\u200d\U0001f469\U0001f468", 7, False)
def test_a_limit_is_kept(text: str, limit: int, lines: bool) -> None:
    """Never longer than the limit, with a mark where something was cut, and still nothing dangerous in it."""
    shown = clean(text, limit, lines=lines)
    assert len(shown) <= limit
    whole = clean(text, lines=lines)
    assert shown == whole or shown.endswith("…")
    if is_emoji_world(shown):
        assert offenders(shown, lines=lines) == []
    assert clean(shown, limit, lines=lines) == shown


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S"]), max_size=60))
def test_plain_text_stays_as_it_is(text: str) -> None:
    """Letters, digits, punctuation and symbols of any script come out unchanged."""
    assert clean(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\tb", "a b"),
        ("a\nb\r\nc", "a | b | c"),
        ("last line\n", "last line"),
        ("a\u00a0b", "a b"),
        ("\x1b]0;PWN\x07", "\\x1b]0;PWN\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("a\u202eb", "a\\u202eb"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
        ("[@click=app.quit]x[/]", "[@click=app.quit]x[/]"),
        ("👩‍💻 ok", "👩‍💻 ok"),
        ("a\u200db", "a\\u200db"),
        ("日本語 עברית ไทย नमस्ते", "日本語 עברית ไทย नमस्ते"),
        ("", ""),
    ],
)
def test_what_it_looks_like(text: str, shown: str) -> None:
    """Dangerous characters become visible as escapes; harmless text, right-to-left scripts and emoji stay."""
    assert clean(text) == shown


def test_lines_are_kept_where_they_are_wanted() -> None:
    """A log line may have several lines; a carriage return, which would overwrite, is made visible."""
    assert clean("a\nb\rc", lines=True) == "a\nb\\x0dc"


@pytest.mark.parametrize("mark", ["\u0301", "\u20dd", "\u0e47", "\u0488", "\ufe0f"])
def test_a_pile_of_marks_is_flattened(mark: str) -> None:
    """A thousand combining marks on one letter, of whatever class, become a few; the text goes on after them."""
    shown = clean("a" + mark * 1_000 + "b")
    assert shown.startswith("a")
    assert shown.endswith("b")
    assert len(shown) <= 12


def test_ten_megabytes_are_cut_before_they_are_cleaned() -> None:
    """A limit is cheap whatever comes in."""
    assert clean("\x1b" * 10_000_000, 100) == "\\x1b" * 24 + "\\x1" + "…"


@given(nasty, st.integers(min_value=12, max_value=100))
def test_bytes_are_cut_between_characters(text: str, limit: int) -> None:
    """At most so many bytes of valid UTF-8, the beginning kept; what fits is not touched."""
    cut = cut_bytes(text, limit)
    data = cut.encode()
    assert len(data) <= limit
    whole = text.encode("utf-8", "backslashreplace").decode()
    if len(whole.encode()) <= limit:
        assert cut == whole
    else:
        assert cut.endswith("… (cut)")
        assert whole.startswith(cut.removesuffix("… (cut)"))


def test_what_a_message_quotes_is_escaped_once() -> None:
    """In quotes, inert, cut; a backslash that stands for a character stands there once."""
    assert quoted("\x1b[31mred") == r"'\x1b[31mred'"
    assert quoted("x" * 50, 10) == f"'{'x' * 9}…'"
