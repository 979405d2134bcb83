"""The page of capabilities is true: its rows are all there, its commands do what it says, its tests exist and ran."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from jobdeck import Context
from jobdeck.settings import Settings
from jobdeck.settings.model import HttpSettings
from jobdeck.sync import SyncClient
from tests.acceptance.deck import Deck, Done
from tests.capabilities.proofs import unproven
from tests.capabilities.seed import WORDS, Seed
from tests.capabilities.table import Command, named_tests, read
from tests.handlers.api import serving
from tests.named import exists

ROOT = Path(__file__).parents[2]
ROWS = read()
PARTS = {"A": 10, "B": 13, "C": 13, "R": 9, "D": 10, "E": 20, "F": 8, "X": 30, "T": 13}
_WORD = re.compile(r"\b[A-Z][A-Z_]{2,}\b")


def test_every_row_is_there_and_none_is_empty() -> None:
    """In order, each with a command and a test, or with the reason why not."""
    expected = [f"{part}{number}" for part, size in PARTS.items() for number in range(1, size + 1)]
    assert [row.key for row in ROWS] == expected
    assert [row.key for row in ROWS if row.is_empty] == []
    assert [row.key for row in ROWS if row.over_http_only] == ["A1", "A9"]


def test_every_word_in_capitals_is_explained() -> None:
    """The page explains the words that stand for something, and the seed makes what they stand for."""
    used = {word for row in ROWS for command in row.commands for word in words_of(command)}
    page = (ROOT / "docs" / "capabilities.md").read_text().partition("## Who")[0]
    assert set(re.findall(r"`([A-Z][A-Z_]+)`", page)) == set(WORDS)
    assert set(WORDS) - used == set()


@pytest.mark.timeout(300)
def test_every_command_ends_as_the_page_says(deck: Deck) -> None:
    """Each of them, as it stands there, against the seeded database: exit code, answer, one line for a refusal."""
    commands = {command: row.key for row in reversed(ROWS) for command in row.commands}
    wanted = Counter(word for command in commands for word in words_of(command))
    settings = Settings(
        database_url=deck.url, data_dir=deck.folder, actor="ann", http=HttpSettings(allow=["127.0.0.1/32"])
    )
    wrong = []
    with SyncClient(settings) as client, serving() as elsewhere:
        seed = Seed(deck, client, elsewhere)
        seed.grow(wanted)
        for command, key in commands.items():
            line = _WORD.sub(
                lambda found: seed.take(found[0]) if found[0] in WORDS else found[0], command.line
            )
            done = deck.run(*shlex.split(line)[1:])
            if not ended_well(command, done):
                wrong.append((key, line, done))
    assert not wrong, "\n".join(map(str, wrong))


def words_of(command: Command) -> list[str]:
    """The words that stand for something, as often as they do."""
    return [word for word in _WORD.findall(command.line) if word in WORDS]


def ended_well(command: Command, done: Done) -> bool:
    """Whether it ended with its code and said something: an answer, or one line that is no surprise."""
    if done.returncode != command.code or "Traceback" in done.stderr:
        return False
    if command.code == 0:
        return bool(done.stdout or done.stderr)
    return not done.stdout and done.stderr.count("\n") == 1


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_every_name_of_python_exists(deck: Deck) -> None:
    """What the page names of the client and of a handler's context is there."""
    names = {name for row in ROWS for name in row.names}
    with SyncClient(Settings(database_url=deck.url, data_dir=deck.folder)) as jobdeck:

        async def client_of(client: Any) -> Any:
            return client

        client = jobdeck(client_of)
        assert [name for name in names if name.startswith("client.") and not _has(client, name)] == []
    assert [name for name in names if name.startswith("ctx.") and not _declares(Context, name)] == []


def _has(thing: Any, name: str) -> bool:
    for part in name.split(".")[1:]:
        thing = getattr(thing, part, None)
    return thing is not None


def _declares(kind: Any, name: str) -> bool:
    for part in name.split(".")[1:]:
        kind = getattr(kind, part, None) or get_type_hints(kind).get(part)
    return kind is not None


def test_every_named_test_exists() -> None:
    """A test that was renamed or taken away leaves no promise behind."""
    assert [name for name in named_tests() if not exists(name)] == []
    assert not exists("tests/store/test_jobs.py::test_that_nobody_wrote")
    assert not exists("tests/store/test_nowhere.py::test_archiving")


def test_what_did_not_run_is_unproven() -> None:
    """A named test is proven where each of its cases passed: not deselected, skipped, failed or gone."""
    collected = ["t.py::test_a[sqlite]", "t.py::test_a[postgresql]", "t.py::test_b", "t.py::test_ab"]
    assert unproven(["t.py::test_a", "t.py::test_b"], collected, set(collected)) == []
    found = unproven(["t.py::test_a", "t.py::test_c"], collected, {"t.py::test_a[sqlite]", "t.py::test_ab"})
    assert found == [
        "t.py::test_c: there is no such test",
        "t.py::test_a[postgresql]: it did not run to its end and pass",
    ]
