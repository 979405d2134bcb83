"""Limits of saved jobs, their schedules, and of the names of teams and projects."""

from __future__ import annotations

import json
from typing import Any, Final
from uuid import uuid4

from jobdeck import limits
from tests.acceptance.deck import Deck
from tests.limits.case import Case, at, is_refusal, not_refused, words_shown

_CRON = "00 0 1 1 " + ",".join(["0"] * 46)
_LONG_CRON = "0" + _CRON
_ZONE = "Europe/London"
_EVERY_TAG = {f"{number:02}" + "k" * 126: "v" * 128 for number in range(32)}
_WAITS = [1.0] * 99 + [float(limits.DELAY_MAX)]


def _set(**fields: Any) -> tuple[str, ...]:
    """Fields of a definition, as words of a command line: TOML, or the text of JSON where that is taken."""
    words: list[str] = []
    for name, value in fields.items():
        is_json = name in ("params", "metadata", "payload_schema")
        parts = {name: value} if is_json or not isinstance(value, dict) else _parts(name, value)
        for place, part in parts.items():
            words += ["--set", f"{place}={json.dumps(part, ensure_ascii=False, separators=(',', ':'))}"]
    return tuple(words)


def _parts(name: str, value: dict[str, Any]) -> dict[str, Any]:
    return {f"{name}.{key}": part for key, part in value.items()}


def _object(size: int) -> dict[str, str]:
    """An object of so many bytes of compact JSON."""
    return {"k": "x" * (size - len('{"k":""}'))}


def _params(size: int) -> dict[str, str]:
    return {"echo": "x" * (size - len('{"echo":""}'))}


def _schedule(**parts: Any) -> tuple[str, ...]:
    return _set(schedule={"cron": "0 3 1 1 *", **parts})


def _rate(**parts: Any) -> tuple[str, ...]:
    return _set(rate_limit={"max": 1, "window": "10s", **parts})


def _tables(field: str, count: int, table: str, name: str = "n") -> tuple[str, ...]:
    """A list of so many tables in TOML, each with a name of its own."""
    tables = ", ".join("{" + table.replace("{name}", f"{name}{number}") + "}" for number in range(count))
    return ("--set", f"{field}=[{tables}]")


def _mail(count: int) -> tuple[str, ...]:
    to = json.dumps([f"n{number}@example.com" for number in range(count)])
    return ("--set", f'notifiers=[{{type = "email", to = {to}}}]')


_RATE = 'name = "{name}", max = 1, window = "10s"'
_MAIL = 'type = "email", to = ["{name}@example.com"]'
_PAGER = 'type = "{name}", target = "x"'
_URL = "https://example.com/"
_META, _SCHEMA = _object(limits.METADATA_BYTES), {"description": "x" * (limits.METADATA_BYTES - 18)}

CASES: Final = (
    Case(
        "name", ("NAME_CHARS",), (_set(name="é" * 256),), (_set(name="n" * 257),), ("name", "256", "not 257"),
        "definition.name", ("é" * 256,),
    ),
    Case(
        "description", ("DESCRIPTION_CHARS",),
        (_set(description="d" * 4_096),), (_set(description="d" * 4_097),), ("description", "4096", "4,097"),
        "definition.description", ("d" * 4_096,),
    ),
    Case(
        "params", ("PARAMS_BYTES",),
        (_set(params=_params(limits.PARAMS_BYTES)),), (_set(params=_params(limits.PARAMS_BYTES + 1)),),
        ("params", "262,145", "262,144"), "definition.params", (_params(limits.PARAMS_BYTES),),
    ),
    Case(
        "metadata", ("METADATA_BYTES",),
        (_set(metadata=_META),), (_set(metadata=_object(limits.METADATA_BYTES + 1)),),
        ("metadata", "16,385", "16,384"), "definition.metadata", (_META,),
    ),
    Case(
        "schema of params", ("METADATA_BYTES",),
        (_set(payload_schema=_SCHEMA),), (_set(payload_schema={"description": "x" * 16_367}),),
        ("payload_schema", "16,385", "16,384"), "definition.payload_schema", (_SCHEMA,),
    ),
    Case(
        "tags", ("TAGS", "TAG_CHARS"),
        (_set(tags=_EVERY_TAG),), (_set(tags={str(number): "v" for number in range(33)}),), ("tags", "32"),
        "definition.tags", (_EVERY_TAG,),
    ),
    Case(
        "length of a tag", ("TAG_CHARS",), (),
        (_set(tags={"k" * 129: "v"}), _set(tags={"k": "v" * 129})), ("tags.k", "128", "not 129"),
    ),
    Case(
        "queue", ("QUEUE_PATTERN", "QUEUE_CHARS"),
        (_set(queue="q" * 128),), (_set(queue="q" * 129),), ("queue", "1,128", "not 129"),
        "definition.queue", ("q" * 128,),
    ),
    Case(
        "environment", ("LABEL_PATTERN",),
        (_set(environment="e" * 128),), (_set(environment="e" * 129),), ("environment", "1,128", "not 129"),
        "definition.environment", ("e" * 128,),
    ),
    Case(
        "group", ("LABEL_PATTERN",),
        (_set(group="g" * 128),), (_set(group="g" * 129),), ("group", "1,128", "not 129"),
        "definition.group", ("g" * 128,),
    ),
    Case(
        "priority", ("PRIORITY_MIN", "PRIORITY_MAX"),
        (_set(priority=1), _set(priority=10)), (_set(priority=11),), ("priority", "equal to 10", "not 11"),
        "definition.priority", (1, 10),
    ),
    Case("first priority", ("PRIORITY_MIN",), (), (_set(priority=0),), ("priority", "equal to 1,", "not 0")),
    Case(
        "attempts", ("MAX_ATTEMPTS_MIN", "MAX_ATTEMPTS_MAX"),
        (_set(max_attempts=1), _set(max_attempts=100)),
        (_set(max_attempts=101),), ("max_attempts", "equal to 100", "not 101"),
        "definition.max_attempts", (1, 100),
    ),
    Case(
        "fewest attempts", ("MAX_ATTEMPTS_MIN",), (),
        (_set(max_attempts=0),), ("max_attempts", "equal to 1,", "not 0"),
    ),
    Case(
        "timeout", ("TIMEOUT_MAX",),
        (_set(timeout="0s"), _set(timeout="1d")), (_set(timeout="86401s"),), ("timeout", "86400s", "not 86401s"),
        "definition.timeout", ("0s", "1d"),
    ),
    Case(
        "delay", ("DELAY_MAX",),
        (_set(delay="366d"),), (_set(delay="31622401s"),), ("delay", "366d", "not 31622401s"),
        "definition.delay", ("366d",),
    ),
    Case(
        "time to live", ("TTL_MAX",),
        (_set(ttl="366d"),), (_set(ttl="31622401s"), _set(ttl="0s")), ("time to live", "366d"),
        "definition.ttl", ("366d",),
    ),
    Case(
        "factor of a backoff", (),
        (_set(backoff={"factor": 1_000}),), (_set(backoff={"factor": 1_001}), _set(backoff={"factor": 0.5})),
        ("backoff", "factor", "between 1 and 1000"), "definition.backoff.factor", (1_000,),
    ),
    Case(
        "waits of a backoff", ("DELAY_MAX", "MAX_ATTEMPTS_MAX"),
        (_set(backoff={"growth": "custom", "delays": _WAITS}),),
        (_set(backoff={"growth": "custom", "delays": [*_WAITS, 1.0]}),), ("backoff", "at most 100", "not 101"),
        "definition.backoff.delays", (_WAITS,),
    ),
    Case(
        "longest wait", ("DELAY_MAX",),
        (_set(backoff={"base": limits.DELAY_MAX, "cap": limits.DELAY_MAX}),),
        (_set(backoff={"cap": limits.DELAY_MAX + 1}), _set(backoff={"base": limits.DELAY_MAX + 1})),
        ("backoff.", "31622400", "not 31622401"), "definition.backoff.cap", (limits.DELAY_MAX,),
    ),
    Case(
        "expression", ("CRON_CHARS",),
        (_schedule(cron=_CRON),), (_schedule(cron=_LONG_CRON),), ("schedule: cron", "100 characters"),
        "definition.schedule.cron", (_CRON,),
    ),
    Case(
        "years to the next fire", ("CRON_YEARS",),
        (_schedule(cron="0 3 29 2 *"),), (_schedule(cron="0 3 30 2 *"),), ("schedule", "never"),
    ),
    Case(
        "zone", (), (_schedule(timezone=_ZONE),), (_schedule(timezone="Mars/Base"),), ("timezone", "Mars/Base"),
        "definition.schedule.timezone", (_ZONE,),
    ),
    Case(
        "jitter", ("CRON_JITTER_MAX",),
        (_schedule(jitter=3_600),), (_schedule(jitter=3_601),), ("schedule.jitter", "3600", "not 3601"),
        "definition.schedule.jitter", (3_600,),
    ),
    Case(
        "fires to make up for", ("CATCH_UP_MAX",),
        (_schedule(catch_up_max=1), _schedule(catch_up_max=1_000)),
        (_schedule(catch_up_max=1_001),), ("schedule.catch_up_max", "1000", "not 1001"),
        "definition.schedule.catch_up_max", (1, 1_000),
    ),
    Case(
        "no fires to make up for", ("CATCH_UP_MAX",), (),
        (_schedule(catch_up_max=0),), ("schedule.catch_up_max", "equal to 1,", "not 0"),
    ),
    Case(
        "runs at a time", ("CONCURRENCY_MAX",),
        (_set(max_concurrency=1), _set(max_concurrency=10_000)),
        (_set(max_concurrency=10_001),), ("max_concurrency", "equal to 10000", "not 10001"),
        "definition.max_concurrency", (1, 10_000),
    ),
    Case(
        "no runs at a time", ("CONCURRENCY_MAX",), (),
        (_set(max_concurrency=0), _set(max_concurrency_per_key=0)), ("max_concurrency", "equal to 1,", "not 0"),
    ),
    Case(
        "runs of a key at a time", ("CONCURRENCY_MAX",), (_set(max_concurrency_per_key=10_000),),
        (_set(max_concurrency_per_key=10_001),), ("max_concurrency_per_key", "equal to 10000", "not 10001"),
        "definition.max_concurrency_per_key", (10_000,),
    ),
    Case(
        "key of runs", ("KEY_CHARS",), (_set(concurrency_key="k" * 256),),
        (_set(concurrency_key="k" * 257),), ("concurrency_key", "256", "257"),
        "definition.concurrency_key", ("k" * 256,),
    ),
    Case(
        "rate", ("RATE_MAX",), (_rate(max=1), _rate(max=10_000)),
        (_rate(max=10_001),), ("rate_limit.max", "equal to 10000", "not 10001"),
        "definition.rate_limit.max", (1, 10_000),
    ),
    Case("no rate", ("RATE_MAX",), (), (_rate(max=0),), ("rate_limit.max", "equal to 1,", "not 0")),
    Case(
        "window of a rate", ("RATE_WINDOW_MAX",), (_rate(window="1s"), _rate(window="86400s")),
        (_rate(window="999ms"), _rate(window="86401s")), ("rate_limit.window", "between 1s and 1d"),
    ),
    Case(
        "named rates", ("RATE_KEYS",), (_tables("rate_limit_keys", 8, _RATE),),
        (_tables("rate_limit_keys", 9, _RATE),), ("rate_limit_keys", "8", "not 9"),
    ),
    Case(
        "name of a rate", ("LABEL_PATTERN",), (_tables("rate_limit_keys", 1, _RATE, "n" * 127),),
        (_tables("rate_limit_keys", 1, _RATE, "n" * 128),), ("rate_limit_keys", "name", "1,128", "not 129"),
    ),
    Case(
        "execution window", ("CRON_CHARS",), (_set(execution_window={"cron": _CRON}),),
        (_set(execution_window={"cron": _LONG_CRON}),), ("execution_window: cron", "100 characters"),
        "definition.execution_window.cron", (_CRON,),
    ),
    Case(
        "notifiers", ("NOTIFIERS",), (_tables("notifiers", 20, _MAIL),),
        (_tables("notifiers", 21, _MAIL),), ("notifiers", "20", "not 21"),
    ),
    Case(
        "addresses of a notifier", ("ADDRESSES",), (_mail(20),), (_mail(21),), ("notifiers", "to", "20", "not 21"),
    ),
    Case(
        "type of a notifier", ("NOTIFIER_PATTERN",), (_tables("notifiers", 1, _PAGER, "n" * 63),),
        (_tables("notifiers", 1, _PAGER, "n" * 64), _tables("notifiers", 1, _PAGER, "A b")),
        ("notifiers", "type"),
    ),
    Case(
        "URL of a webhook", ("URL_CHARS",), (_set(webhook_url=_URL + "x" * (2_048 - len(_URL))),),
        (_set(webhook_url=_URL + "x" * (2_049 - len(_URL))),), ("webhook_url", "2048", "2,049"),
        "definition.webhook_url", (_URL + "x" * (2_048 - len(_URL)),),
    ),
    Case(
        "note", ("REASON_CHARS",), (("--note", "r" * 512),), (("--note", "r" * 513),), ("reason", "512", "513"),
    ),
)  # fmt: skip


def test_at_the_limit(deck: Deck) -> None:
    """Each field of a definition at its limit: stored, and read back as it was given."""
    wrong = []
    for case in CASES:
        for index, words in enumerate(case.fits):
            done = deck.run("jobs", "create", f"job-{uuid4().hex}", "--type", "noop", *words, "--json")
            found = at(json.loads(done.stdout), case.field) if done.returncode == 0 else done.stderr
            if done.returncode != 0 or (case.stored and found != case.stored[index]):
                wrong.append((case.name, words_shown(words), str(found)[:300]))
    assert wrong == []


def test_one_beyond(deck: Deck) -> None:
    """One more is refused with exit code 2 and one line that names field, limit and value; no job is there."""
    assert not_refused(deck, ("jobs", "create", "one", "--type", "noop"), CASES) == []
    assert deck.json("jobs", "list") == []


def test_slugs_and_names(deck: Deck) -> None:
    """64 characters of a slug and 256 of a name are taken for a job, a team and a project; one more is not."""
    made = ("jobs", "create"), ("teams", "create"), ("projects", "create")
    for words in made:
        more = ("--type", "noop") if words[0] == "jobs" else ("--name", "n" * 256)
        answer = deck.json(*words, "s" * 64, *more)
        assert answer["slug"] == "s" * 64
        assert words[0] == "jobs" or answer["name"] == "n" * 256
        for slug in ("s" * 65, "", "Upper", "-first", "a b"):
            assert is_refusal(deck.run(*words, *more, "--", slug), ("slug", "at most 64")), (words, slug)
        if words[0] != "jobs":
            done = deck.run(*words, "other", "--name", "n" * 257)
            assert is_refusal(done, ("name", "at most 256", "not 257")), done
        found = deck.json(words[0], "list")
        assert [each["slug"] for each in found if each["slug"] != "default"] == ["s" * 64]


def test_as_many_jobs_as_a_batch_may_have(deck: Deck) -> None:
    """A file of 100 jobs makes 100; one of 101 makes none and says how many it has."""
    lines = [json.dumps({"slug": f"job-{number}", "type": "noop"}) for number in range(101)]
    (deck.folder / "most.ndjson").write_text("\n".join(lines[:100]))
    (deck.folder / "more.ndjson").write_text("\n".join(lines))
    done = deck.run("jobs", "create", "--batch", "more.ndjson")
    assert is_refusal(done, ("1 to 100 jobs", "not 101")), done
    assert deck.json("jobs", "list") == []
    assert deck.run("jobs", "create", "--batch", "most.ndjson").returncode == 0
    assert len(deck.json("jobs", "list")) == 100


def test_the_largest_definition(deck: Deck) -> None:
    """Params of 262,144 bytes and other fields as large as they may be, up to 327,680 bytes in all, not more."""
    largest = {
        "type": "noop",
        "params": _params(limits.PARAMS_BYTES),
        "metadata": _META,
        "payload_schema": _SCHEMA,
        "tags": {f"{number:02}" + "😀" * 80: "😀" * 128 for number in range(32)},
        "description": "",
    }
    size = len(json.dumps(largest, ensure_ascii=False, separators=(",", ":")).encode())
    room = limits.DEFINITION_BYTES - size
    full = largest | {"description": "é" * (room // 2) + "x" * (room % 2)}
    assert deck.run("jobs", "create", "--batch", _file(deck, full)).returncode == 0
    (job,) = deck.json("jobs", "list")
    assert job["definition"] == full
    done = deck.run(
        "jobs", "create", "--batch", _file(deck, full | {"description": f"{full['description']}x"})
    )
    assert is_refusal(done, ("definition", "327,681", "327,680")), done
    assert len(deck.json("jobs", "list")) == 1


def _file(deck: Deck, definition: dict[str, Any]) -> str:
    path = deck.folder / f"{uuid4().hex}.ndjson"
    path.write_text(json.dumps({"slug": f"job-{uuid4().hex}", **definition}, ensure_ascii=False))
    return path.name
