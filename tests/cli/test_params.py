"""`-p key=value` and `--params`."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from jobdeck.cli.params import read_params
from jobdeck.errors import ValidationError

SCHEMA = {
    "properties": {
        "name": {"type": "string"},
        "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "count": {"type": "integer"},
        "any": {},
    }
}


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("count=3", 3),
        ("any=true", True),
        ('any={"a": [1]}', {"a": [1]}),
        ("any=plain words", "plain words"),
        ("any=", ""),
        ("any=a=b", "a=b"),
        # The schema says text: what looks like a number or JSON stays text.
        ("name=42", "42"),
        ("name=null", "null"),
        ("maybe=1e3", "1e3"),
        ("maybe=null", None),
        ("unknown=7", 7),
    ],
)
def test_a_pair_is_json_unless_the_schema_wants_text(pair: str, value: Any) -> None:
    """A value becomes what the type's params expect, without quoting for the shell."""
    assert read_params(None, [pair], SCHEMA) == {pair.partition("=")[0]: value}


def test_pairs_go_over_the_json() -> None:
    """`--params` is the base, `-p` changes single values."""
    assert read_params('{"count": 1, "name": "a"}', ["count=2"], SCHEMA) == {"count": 2, "name": "a"}


@pytest.mark.parametrize("source", ["[1]", "3", '"text"', "{", '{"a": NaN}', '{"a": 1, "a": 2}'])
def test_what_is_no_object_is_refused(source: str) -> None:
    """Params are one JSON object, strictly read."""
    with pytest.raises(ValidationError):
        read_params(source, [], {})


@pytest.mark.parametrize("pair", ["novalue", "=5"])
def test_a_pair_without_a_name_is_refused(pair: str) -> None:
    """A forgotten `=` is said, not guessed at."""
    with pytest.raises(ValidationError, match="key=value"):
        read_params(None, [pair], {})


def test_endless_input_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an endless pipe one byte more than the limit is read, then it is refused."""

    class Endless(io.RawIOBase):
        taken = 0

        def read(self, size: int = -1) -> bytes:
            assert size >= 0, "asked for everything"
            self.taken += size
            return b"x" * size

    endless = Endless()
    monkeypatch.setattr(sys, "stdin", type("Stdin", (), {"buffer": endless}))
    with pytest.raises(ValidationError, match="262,144"):
        read_params("-", [], {})
    assert endless.taken == 262_145


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The file and the reason, in one line."""
    with pytest.raises(ValidationError, match="No such file"):
        read_params(f"@{tmp_path}/none.json", [], {})
