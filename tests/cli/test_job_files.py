"""Jobs in files: what is exported is read again, and what is wrong is said in one line."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jobdeck.cli.job_files import assigned, merged, read_files, read_lines, read_toml, toml_text
from jobdeck.definition import parse_definition
from jobdeck.errors import ValidationError
from jobdeck.ids import new_id
from jobdeck.model import Job, JobSpec

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def job(slug: str, facts: dict[str, Any], *, enabled: bool = True) -> Job:
    return Job(new_id(), new_id(), None, None, slug, 1, enabled, facts, NOW, "ada", NOW, "ada", None)


def test_what_is_exported_is_read_again() -> None:
    """Also what TOML has no word for, and whether a job is enabled."""
    facts = parse_definition(
        {
            "type": "sync", "params": {"a": None, "b": [1, {"c": "ü\n\"'"}], "d": 1.5}, "timeout": "90s",
            "backoff": {"growth": "custom", "delays": [1, 2.5]}, "tags": {"k.x": "v"},
        }
    ).facts()  # fmt: skip
    text = toml_text([job("nightly", facts), job("off", {"type": "noop"}, enabled=False)])
    first, second = read_toml(text, "file")
    assert (first.slug, first.enabled, second) == ("nightly", True, JobSpec("off", {"type": "noop"}, False))
    assert parse_definition(first.definition).facts() == facts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("jobs = 1", r"has tables \[jobs.SLUG\] and nothing else"),
        ("[jobs.a]\ntype = 'x'\n[other]\n", "nothing else"),
        ("[jobs.a\n", "not valid TOML"),
        ("a = [" * 5_000, "not valid TOML"),
        ("[jobs]\na = 1", "nothing else"),
        ("[jobs.a]\nenabled = 'no'", "enabled is true or false"),
    ],
)
def test_files_that_are_none(text: str, words: str) -> None:
    """One line that says what such a file has."""
    with pytest.raises(ValidationError, match=words) as caught:
        read_toml(text, "file")
    assert "\n" not in caught.value.message.strip()


def test_files_from_disk(tmp_path: Path) -> None:
    """Several are read as one; the same slug in two, a missing file and one that is no text are refused."""
    (tmp_path / "a.toml").write_text("[jobs.a]\ntype = 'x'\n")
    (tmp_path / "b.toml").write_text("[jobs.b]\ntype = 'x'\n")
    (tmp_path / "c.toml").write_bytes(b"\xff\xfe")
    (tmp_path / "d.ndjson").write_text('{"slug": "d", "type": "x", "enabled": false}\n\n')
    (tmp_path / "e.ndjson").write_text('{"type": "x"}')
    assert [spec.slug for spec in read_files([tmp_path / "a.toml", tmp_path / "b.toml"])] == ["a", "b"]
    assert read_lines(tmp_path / "d.ndjson") == [JobSpec("d", {"type": "x"}, False)]
    for paths, words in (
        ([tmp_path / "a.toml"] * 2, "stands in two files"),
        ([tmp_path / "none.toml"], "cannot be read"),
        ([tmp_path / "c.toml"], "not UTF-8"),
    ):
        with pytest.raises(ValidationError, match=words):
            read_files(paths)
    with pytest.raises(ValidationError, match="line 1 is no JSON object with a slug"):
        read_lines(tmp_path / "e.ndjson")


def test_fields_on_the_command_line() -> None:
    """Values are TOML where they can be, else text; dots reach into objects."""
    pairs = [
        "priority=2",
        "params.url=https://a.test/x=1",
        "params.deep.n=[1, 2]",
        "notify=true",
        'name="a b"',
        "q=a b",
    ]
    assert assigned(pairs) == {
        "priority": 2, "params": {"url": "https://a.test/x=1", "deep": {"n": [1, 2]}}, "notify": True, "name": "a b",
        "q": "a b",
    }  # fmt: skip
    for wrong in (["priority"], ["=1"], ["a..b=1"], ["a=1", "a.b=2"]):
        with pytest.raises(ValidationError, match="--set"):
            assigned(wrong)


def test_an_object_of_json() -> None:
    """It is one, wherever it stands; a text that only looks like one stays a text."""
    assert assigned(['params={"shelf": "B", "none": null}', 'retry={"growth": "fixed"}', "name={"]) == {
        "params": {"shelf": "B", "none": None},
        "retry": {"growth": "fixed"},
        "name": "{",
    }
    with pytest.raises(ValidationError, match=r"in TOML or JSON.*write an object like"):
        assigned(['{"shelf": "B"}'])


def test_files_that_are_piped_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` is what is piped in, as it is of `jobdeck trigger --batch`."""
    for read, text in (
        (read_lines, '{"slug": "d", "type": "x"}\n'),
        (lambda path: read_files([path]), '[jobs.d]\ntype = "x"\n'),
    ):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        assert read(Path("-")) == [JobSpec("d", {"type": "x"})]


def test_objects_are_merged() -> None:
    """What is no object is replaced."""
    before = {"params": {"a": 1, "b": {"c": 1}}, "tags": {"k": "v"}, "priority": 1}
    assert merged(before, {"params": {"b": {"d": 2}}, "priority": 2}) == {
        "params": {"a": 1, "b": {"c": 1, "d": 2}}, "tags": {"k": "v"}, "priority": 2,
    }  # fmt: skip
