"""Limits of a trigger, by the command line: at the limit it is stored whole, one beyond is refused."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from jobdeck import limits
from tests.acceptance.deck import Deck
from tests.limits.case import Case, is_refusal, not_refused, not_whole

_YEAR: Final = 366 * 86_400


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _nested(depth: int) -> dict[str, Any]:
    """Params of so many levels, themselves included."""
    value: Any = 1
    for _ in range(depth - 2):
        value = [value]
    return {"echo": value}


def _values(count: int) -> dict[str, Any]:
    """Params of so many values, themselves included."""
    return {"echo": [0] * (count - 2)}


def _metadata(size: int) -> dict[str, str]:
    return {"k": "é" * ((size - 8) // 2) + "x" * (size % 2)}


def _params(value: dict[str, Any]) -> tuple[str, str]:
    return ("--params", _compact(value))


def _tags(count: int, key: int, value: int, char: str = "x") -> dict[str, str]:
    return {f"{number:02}" + char * (key - 2): char * value for number in range(count)}


def _tag_words(tags: dict[str, str]) -> tuple[str, ...]:
    return tuple(word for key, value in tags.items() for word in ("--tag", f"{key}={value}"))


_TAGS = [_tags(32, 128, 128), _tags(32, 128, 128, "😀")]
_DEPTH, _NODES = _nested(limits.JSON_DEPTH), _values(limits.JSON_NODES)
_METADATA = _metadata(limits.METADATA_BYTES)
_URL = "https://example.com/" + "x" * (limits.URL_CHARS - 20)
_LIST_OF_WAITS = ",".join(["1s"] * 99 + ["366d"])

CASES: Final = (
    Case(
        "depth of params", ("JSON_DEPTH",),
        (_params(_DEPTH),), (_params(_nested(limits.JSON_DEPTH + 1)),), ("params", "deeper than 32"),
        "params", (_DEPTH,),
    ),
    Case(
        "values of params", ("JSON_NODES",),
        (_params(_NODES),), (_params(_values(limits.JSON_NODES + 1)),), ("params", "more than 10,000 values"),
        "params", (_NODES,),
    ),
    Case(
        "integers", (),
        (_params({"echo": 2**53}), _params({"echo": -(2**53)})),
        (_params({"echo": 2**53 + 1}), _params({"echo": -(2**53) - 1})), ("params", "integer beyond 2^53"),
        "params.echo", (2**53, -(2**53)),
    ),
    Case(
        "name", ("NAME_CHARS",),
        (("--name", "n" * 256), ("--name", "é" * 256)), (("--name", "n" * 257),), ("name", "256", "not 257"),
        "name", ("n" * 256, "é" * 256),
    ),
    Case(
        "queue", ("QUEUE_CHARS", "QUEUE_PATTERN"),
        (("--queue", "q" * 128), ("--queue", "A-z_09")),
        (("--queue", "q" * 129),), ("queue", "at most 128", "not 129"),
        "queue", ("q" * 128, "A-z_09"),
    ),
    Case(
        "signs of a queue", ("QUEUE_PATTERN",), (),
        (("--queue", ""), ("--queue", "a b"), ("--queue", "a.b"), ("--queue", "é"), ("--queue", "a\n")),
        ("queue", "letters, digits, '-' and '_'"),
    ),
    Case(
        "number of tags", ("TAGS", "TAG_CHARS", "TAGS_BYTES"),
        tuple(map(_tag_words, _TAGS)), (_tag_words(_tags(33, 2, 1)),), ("32 tags", "not 33"),
        "tags", tuple(_TAGS),
    ),
    Case(
        "length of a tag", ("TAG_CHARS",), (),
        (("--tag", "k" * 129 + "=v"), ("--tag", "k=" + "v" * 129)), ("tags", "128 characters", "up to 129"),
    ),
    Case(
        "metadata", ("METADATA_BYTES",),
        (("--metadata", _compact(_METADATA)),),
        (("--metadata", _compact(_metadata(limits.METADATA_BYTES + 1))),), ("metadata", "16,385", "16,384"),
        "metadata", (_METADATA,),
    ),
    Case(
        "priority", ("PRIORITY_MIN", "PRIORITY_MAX"),
        (("--priority", "1"), ("--priority", "10")), (("--priority", "0"),), ("priority", "1 and 10", "not 0"),
        "priority", (1, 10),
    ),
    Case("last priority", ("PRIORITY_MAX",), (), (("--priority", "11"),), ("priority", "1 and 10", "not 11")),
    Case("priority by default", ("PRIORITY_DEFAULT",), ((),), (), (), "priority", (5,)),
    Case(
        "attempts", ("MAX_ATTEMPTS_MIN", "MAX_ATTEMPTS_MAX"),
        (("--max-attempts", "1"), ("--max-attempts", "100")),
        (("--max-attempts", "0"),), ("max_attempts", "1 and 100", "not 0"),
        "max_attempts", (1, 100),
    ),
    Case(
        "most attempts", ("MAX_ATTEMPTS_MAX",), (),
        (("--max-attempts", "101"),), ("max_attempts", "1 and 100", "not 101"),
    ),
    Case(
        "timeout", ("TIMEOUT_MAX",),
        (("--timeout", "0s"), ("--timeout", "86400s"), ("--timeout", "1d")),
        (("--timeout", "86401s"),), ("timeout", "86400s", "not 86401s"),
        "timeout_secs", (0, 86_400, 86_400),
    ),
    Case(
        "delay", ("DELAY_MAX",),
        (("--delay", "0s"), ("--delay", "366d"), ("--delay", f"{_YEAR}s")),
        (("--delay", f"{_YEAR + 1}s"),), ("delay", "0s and 366d", f"not {_YEAR + 1}s"),
        "trigger_type", ("immediate", "delayed", "delayed"),
    ),
    Case(
        "durations", (), (("--delay", "250ms"), ("--delay", "1.5h")),
        (("--delay", "-1s"), ("--delay", "1w"), ("--delay", "5 m"), ("--delay", "")), ("is not a duration",),
    ),
    Case("longest duration", (), (), (("--delay", "3661d"),), ("'3661d'", "between 0s and 3660d")),
    Case(
        "URL of a callback", ("URL_CHARS",), (("--callback-url", _URL),),
        (("--callback-url", _URL + "x"),), ("callback_url", "at most 2,048", "not 2,049"), "callback_url", (_URL,),
    ),
    Case(
        "time to live", ("TTL_MAX",),
        (("--ttl", "1ms"), ("--ttl", "366d")), (("--ttl", "0s"),), ("time to live", "more than 0s", "not 0s"),
    ),
    Case(
        "longest time to live", ("TTL_MAX",), (),
        (("--ttl", f"{_YEAR + 1}s"),), ("time to live", "at most 366d", f"not {_YEAR + 1}s"),
    ),
    Case(
        "idempotency key", ("KEY_CHARS",),
        (("--idempotency-key", "k" * 256), ("--idempotency-key", "é")),
        (("--idempotency-key", "k" * 257),), ("idempotency_key", "1 to 256", "not 257"),
        "idempotency_key", ("k" * 256, "é"),
    ),
    Case("no idempotency key", (), (), (("--idempotency-key", ""),), ("idempotency_key", "1 to 256", "not 0")),
    Case(
        "dedupe key", ("KEY_CHARS",),
        (("--dedupe-key", "k" * 256),), (("--dedupe-key", "k" * 257),), ("dedupe_key", "1 to 256", "not 257"),
        "dedupe_key", ("k" * 256,),
    ),
    Case(
        "dedupe window", ("DEDUPE_WINDOW_MAX",),
        (("--dedupe-key", "a", "--dedupe-window", "1ms"), ("--dedupe-key", "b", "--dedupe-window", "366d")),
        (("--dedupe-key", "c", "--dedupe-window", "0s"),), ("dedupe window", "more than 0s", "not 0s"),
    ),
    Case(
        "longest dedupe window", ("DEDUPE_WINDOW_MAX",), (),
        (("--dedupe-key", "c", "--dedupe-window", f"{_YEAR + 1}s"),), ("at most 366d", f"not {_YEAR + 1}s"),
    ),
    Case(
        "first and longest wait before a retry", ("DELAY_MAX",),
        (("--retry-delay", "0s", "--retry-max", "366d"), ("--retry-delay", "366d", "--retry-max", "0s")),
        (("--retry-delay", "367d"), ("--retry-max", "367d")), ("backoff", "between 0 and 31622400 seconds"),
        "backoff.cap", (_YEAR, 0),
    ),
    Case(
        "listed waits", ("MAX_ATTEMPTS_MAX", "DELAY_MAX"),
        (("--retry-delays", _LIST_OF_WAITS),),
        (("--retry-delays", _LIST_OF_WAITS + ",1s"),), ("backoff", "at most 100 delays", "not 101"),
        "backoff.delays", ([1.0] * 99 + [float(_YEAR)],),
    ),
    Case(
        "a listed wait", ("DELAY_MAX",), (),
        (("--retry-delays", "1s,367d"),), ("delays of a backoff", "between 0 and 31622400 seconds"),
    ),
    Case(
        "first and last time", (),
        (("--at", "1970-01-01T00:00:00Z"), ("--at", "9998-12-31T23:59:59Z")),
        (("--at", "1969-12-31T23:59:59Z"), ("--at", "9999-01-01T00:00:00Z")), ("outside the years 1970-9998",),
        "scheduled_at", ("1970-01-01T00:00:00.000Z", "9998-12-31T23:59:59.000Z"),
    ),
)  # fmt: skip


def test_at_the_limit(deck: Deck) -> None:
    """Each limit that a trigger has is reached, and what was given is what the record says."""
    assert not_whole(deck, ("trigger", "noop"), CASES) == []


def test_one_beyond(deck: Deck) -> None:
    """One more of anything ends with exit code 2 and one line that names field, limit and value; no run is there."""
    assert not_refused(deck, ("trigger", "noop"), CASES) == []
    assert deck.json("runs", "list")["runs"] == []


def test_as_many_as_may_be_made_at_once(deck: Deck) -> None:
    """10,000 runs by one command are stored; 10,001 are not, and neither is a file of so many lines."""
    for words, fed in (
        (("trigger", "noop", "--count", "10001"), ""),
        (("trigger", "noop", "--batch", "-"), "{}\n" * 10_001),
    ):
        assert is_refusal(deck.run(*words, stdin=fed), ("10,000",))
    assert deck.json("runs", "list")["runs"] == []
    done = deck.run("trigger", "noop", "--count", "10000")
    assert (done.returncode, done.stdout.count("\n")) == (0, 10_000), done.stderr
    assert len(set(done.stdout.split())) >= 10_000


def test_a_line_of_a_batch(deck: Deck) -> None:
    """A line with the largest params, metadata and tags is stored whole; one beyond its room is refused."""
    params = {"echo": "x" * (limits.PARAMS_BYTES - len('{"echo":""}'))}
    line = _compact({"params": params, "metadata": _METADATA, "tags": _TAGS[1]})
    made = deck.json("trigger", "noop", "--batch", "-", stdin=line)
    assert (made["created"], made["failed"]) == (1, 0), made
    run = deck.show(made["results"][0]["id"])
    assert (run["params"], run["metadata"], run["tags"]) == (params, _METADATA, _TAGS[1])
    room = limits.PARAMS_BYTES + limits.METADATA_BYTES + limits.TAGS_BYTES
    done = deck.run("trigger", "noop", "--batch", "-", stdin="{}\n" + " " * (room - 1) + "{}")
    assert is_refusal(done, ("line 2", f"{room:,} bytes")), done
    assert len(deck.json("runs", "list")["runs"]) == 1


@pytest.mark.parametrize("verb", ["cancel", "retry", "approve", "reject", "update"])
def test_reasons(deck: Deck, verb: str) -> None:
    """512 characters of reason are kept whole, 513 are refused by each verb, and the run is as it was."""
    deck.settings["JOBDECK_APPROVALS__OWN"] = "true"
    needs = ("--needs-approval",) if verb in ("approve", "reject") else ()
    run = deck.json("trigger", "noop", *needs)["id"]
    if verb == "retry":
        assert deck.run("runs", "cancel", run).returncode == 0
    words = ("runs", verb, run, *(("--priority", "1") if verb == "update" else ()), "--reason")
    before = deck.show(run)
    assert is_refusal(deck.run(*words, "r" * 513), ("reason", "at most 512", "not 513"))
    assert deck.show(run) == before
    assert deck.run(*words, "r" * 512).returncode == 0
    told = deck.json("runs", "show", run, "--events")["events"][-1]
    assert "r" * 512 in json.dumps(told)
