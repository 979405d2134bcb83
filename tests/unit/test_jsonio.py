"""JSON at the border: what one of the databases or readers could not hold is refused, the rest comes back unchanged."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobdeck import jsonio, limits
from jobdeck.errors import ValidationError

fine_text = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | fine_text
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(fine_text, inner, max_size=5),
    max_leaves=40,
)


def dumps(value: Any, limit: int = 1_000_000) -> str:
    return jsonio.dumps(value, what="params", limit=limit)


def loads(text: str | bytes, limit: int = 1_000_000) -> Any:
    return jsonio.loads(text, what="params", limit=limit)


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels - 1):
        value = [value]
    return value


@given(values)
def test_values_come_back(value: Any) -> None:
    """What is written compactly reads back the same, from text and from bytes."""
    text = dumps(value)
    assert loads(text) == value
    assert loads(text.encode()) == value
    assert text == json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@given(st.text(max_size=40) | st.binary(max_size=40))
def test_any_input_is_a_value_or_refused(text: str | bytes) -> None:
    """Nothing but ValidationError comes out, and what is accepted can be written again."""
    try:
        value = loads(text)
    except ValidationError as error:
        refused = error.message
        assert len(refused) < 300
    else:
        assert loads(dumps(value)) == value


REFUSED = [
    ("NaN", "NaN"),
    ("[Infinity]", "Infinity"),
    ('{"a":-Infinity}', "-Infinity"),
    ("1e999", "inf"),
    ("-1e999", "-inf"),
    ("9007199254740993", "2\\^53"),
    ("-9007199254740993", "2\\^53"),
    ("9" * 5_000, "params"),
    ('"\\ud800"', "surrogate"),
    ('{"\\udfff":1}', "surrogate"),
    ('"\\u0000"', "NUL"),
    ('{"a\\u0000":1}', "NUL"),
    ('{"a":1,"a":2}', "twice"),
    ('{"a":{"b":1,"b":1}}', "twice"),
    ("[" * 100_000 + "]" * 100_000, "deeper"),
    ('{"a":' * 990 + "1" + "}" * 990, "deeper"),
    ("[" * 33 + "]" * 33, "deeper than 32"),
    ("\ufeff{}", "BOM"),
    ("{}{}", "Extra data"),
    ("{'a':1}", "not valid JSON"),
    ("[1,]", "not valid JSON"),
    ("", "not valid JSON"),
    ("\ud800", "not valid JSON"),
    ("[" + "0," * 10_000 + "0]", "more than 10,000"),
]


@pytest.mark.parametrize(
    ("text", "words"), REFUSED, ids=[text[:20].encode("unicode_escape").decode() for text, _ in REFUSED]
)
def test_text_that_is_refused(text: str, words: str) -> None:
    """Each is a ValidationError of one line that says what is wrong and of what."""
    with pytest.raises(ValidationError, match=words) as caught:
        loads(text)
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("data", [b"\xff\xfe", b'"\xc3"', b'"\xed\xa0\x80"', b"\x00"])
def test_bytes_that_are_no_text(data: bytes) -> None:
    """Broken UTF-8 is refused like any other wrong JSON."""
    with pytest.raises(ValidationError):
        loads(data)


class Strange:
    """Something JSON has no form for."""


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("nan"), "nan"),
        ({"a": [float("inf")]}, "inf"),
        (2**53 + 1, "2\\^53"),
        (-(2**64), "2\\^53"),
        ("a\x00", "NUL"),
        ({"\ud800": 1}, "surrogate"),
        ({1: "a"}, "key that is not text"),
        ({"a": b"x"}, "bytes"),
        ({"a": {1, 2}}, "set"),
        (Strange(), "Strange"),
        (nested(33), "deeper than 32"),
        ([0] * 10_000, "more than 10,000"),
    ],
)
def test_values_that_are_refused(value: Any, words: str) -> None:
    """What JSON, or one of the databases, cannot hold is named."""
    with pytest.raises(ValidationError, match=words) as caught:
        dumps(value)
    assert caught.value.field == "params"


def test_a_value_that_contains_itself() -> None:
    """A circle is refused, not followed for ever."""
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(ValidationError):
        dumps(circle)


def test_edges_that_are_fine() -> None:
    """32 levels, 10,000 values, 2^53, and the exact number of bytes pass."""
    for value in (nested(limits.JSON_DEPTH), [0] * (limits.JSON_NODES - 1), 2**53, -(2**53)):
        assert loads(dumps(value)) == value
    assert dumps("é" * 10, limit=22) == '"' + "é" * 10 + '"'
    assert loads('"éé"', limit=6) == "éé"


def test_size_is_counted_in_bytes() -> None:
    """One byte more than allowed is refused on both ways, and the sizes are said."""
    with pytest.raises(ValidationError, match="23 bytes of JSON; at most 22"):
        dumps("é" * 10 + "x", limit=22)
    with pytest.raises(ValidationError, match="7 bytes; at most 6"):
        loads('"ééx"', limit=6)
    with pytest.raises(ValidationError, match="5 bytes; at most 4"):
        loads(b"12345", limit=4)


def test_mappings_and_tuples_are_written_as_json_has_them() -> None:
    """Any mapping is an object and a tuple is an array."""
    assert dumps({"a": (1, 2), "b": MappingProxyType({"c": 1})}) == '{"a":[1,2],"b":{"c":1}}'
