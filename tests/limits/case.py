"""A limit: what is allowed exactly, what is one beyond, and what is said of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.acceptance.deck import Deck, Done

Words = Sequence[str]


@dataclass(frozen=True, slots=True)
class Case:
    """`fits` and `beyond` are options of one command, each a list of its own; `says` is in what is said of `beyond`."""

    name: str
    limits: tuple[str, ...]
    """The constants of `jobdeck.limits` that it tries."""
    fits: tuple[Words, ...]
    beyond: tuple[Words, ...]
    says: tuple[str, ...]
    field: str = ""
    """Where the answer has what was stored, as dotted names; "" where nothing is to be looked at."""
    stored: tuple[Any, ...] = ()
    """What is there after each of `fits`."""


def at(answer: Any, field: str) -> Any:
    """The value under dotted names; None where there is none."""
    for part in field.split("."):
        answer = answer.get(part) if isinstance(answer, dict) else None
    return answer


def not_whole(deck: Deck, command: Words, cases: Sequence[Case]) -> list[Any]:
    """Of each case what was refused at the limit, or is not there as it was given."""
    wrong: list[Any] = []
    for case in cases:
        for index, words in enumerate(case.fits):
            done = deck.run(*command, *words, "--json")
            if done.returncode != 0:
                wrong.append((case.name, words_shown(words), done.stderr[:500]))
            elif case.stored and (found := at(_json(done), case.field)) != case.stored[index]:
                wrong.append((case.name, words_shown(words), str(found)[:200]))
    return wrong


def not_refused(deck: Deck, command: Words, cases: Sequence[Case]) -> list[Any]:
    """Of each case what was taken beyond the limit, or not refused by one line that says what is wrong."""
    wrong: list[Any] = []
    for case in cases:
        for words in case.beyond:
            done = deck.run(*command, *words)
            if not is_refusal(done, case.says):
                wrong.append((case.name, words_shown(words), done.returncode, done.stderr[:500]))
    return wrong


def is_refusal(done: Done, says: Sequence[str]) -> bool:
    """Exit code 2, and one line of bearable length on stderr with these words in it."""
    one_line = done.stderr.count("\n") == 1 and len(done.stderr) < 600
    silent = done.stdout == "" and "Traceback" not in done.stderr
    return done.returncode == 2 and one_line and silent and all(word in done.stderr for word in says)


def words_shown(words: Words) -> list[str]:
    """Words of a command line, short enough for a report."""
    return [word if len(word) <= 60 else f"{word[:40]}… ({len(word)})" for word in words]


def _json(done: Done) -> Any:
    import json

    return json.loads(done.stdout)
