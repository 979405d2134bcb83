"""Triggering by the client: every limit at its edge and one beyond; what is refused leaves nothing behind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobdeck import limits
from jobdeck.client import Client
from jobdeck.errors import (
    AlreadyActive,
    Conflict,
    DatabaseUnavailable,
    Forbidden,
    JobdeckError,
    PartlyRefused,
    PartlyStored,
    UnknownJobType,
    ValidationError,
)
from jobdeck.ids import new_id, show_id
from jobdeck.states import Condition
from jobdeck.store.schema import run_events, runs
from tests.store.clients import REMOTE, client_of
from tests.store.deck import Deck, team_of
from tests.store.fleet import join


@pytest.fixture
async def client(deck: Deck) -> AsyncIterator[Client]:
    """A client of the deck's team."""
    made = client_of(deck)
    yield made
    made.close()


async def stored(deck: Deck) -> int:
    """How many runs there are; an event without a run would be found too."""
    found = len(await deck.rows(runs))
    assert len(await deck.rows(run_events)) >= found
    return found


async def test_a_trigger_returns_the_run(client: Client, deck: Deck) -> None:
    """Params, the job type's policies and who triggered it are in the record that comes back."""
    run = await client.runs.trigger("sync", {"source": "shop"})
    assert (run.job_type, run.name, run.category, run.queue, run.priority) == (
        "sync", "Sync", "sync", "default", 5,
    )  # fmt: skip
    assert run.params == {"source": "shop"}
    assert (run.max_attempts, run.timeout_s) == (4, 600.0)
    assert (run.triggered_by, run.trigger_type) == ("manual:ada", "immediate")
    assert (run.team, run.project, run.status) == ("acme", "main", "pending")
    assert await deck.show(run.id) == run


async def test_options_go_before_the_policies_of_the_type(client: Client) -> None:
    """Whatever the trigger states is taken; a delay makes the run `delayed`."""
    run = await client.runs.trigger(
        "sync", queue="slow", priority=1, delay=timedelta(minutes=1), max_attempts=1, timeout=timedelta(0),
        name="Mine", tags={"env": "prod"}, metadata={"a": [1]}, notify=True, triggered_by="api:token",
    )  # fmt: skip
    assert (run.queue, run.priority, run.max_attempts, run.timeout_s, run.name) == ("slow", 1, 1, 0.0, "Mine")
    assert (run.tags, run.metadata, run.notify) == ({"env": "prod"}, {"a": [1]}, True)
    assert (run.trigger_type, run.triggered_by, run.label) == ("delayed", "api:token", "scheduled")
    assert run.due_at - run.created_at == timedelta(minutes=1)


async def test_a_type_without_a_project(client: Client, deck: Deck) -> None:
    """A run of a team's type has no project; a project's type without a project is refused."""
    assert (await client.runs.trigger("team_report")).project is None
    homeless = client_of(deck, project=None)
    with pytest.raises(ValidationError, match="--project"):
        await homeless.runs.trigger("sync")
    homeless.close()


async def test_system_types_are_not_for_people(client: Client, deck: Deck) -> None:
    """Forbidden, which is another exit code than wrong input."""
    with pytest.raises(Forbidden) as caught:
        await client.runs.trigger("system.cleanup")
    assert caught.value.exit_code == 6
    assert await stored(deck) == 0


async def test_a_type_that_only_workers_know(client: Client, deck: Deck) -> None:
    """Its row is enough: policies are taken from there and params are checked by its schema."""
    with pytest.raises(UnknownJobType, match="jobdeck types list"):
        await client.runs.trigger("remote", {"source": "a"})
    await join(deck.database, REMOTE)
    run = await client.runs.trigger("remote", {"source": "a", "pages": 2})
    assert (run.name, run.category, run.max_attempts, run.timeout_s) == ("Remote", "export", 2, 60.0)
    for wrong, words in (
        ({}, "'source' is a required property"),
        ({"source": 1}, "source: 1 is not of type 'string'"),
        ({"source": "a", "pages": 0}, "pages: 0 is less than the minimum"),
        ({"source": "a", "more": 1}, "'more' was unexpected"),
    ):
        with pytest.raises(ValidationError, match=words) as caught:
            await client.runs.trigger("remote", wrong)
        assert "\n" not in caught.value.message
    with pytest.raises(AlreadyActive) as active:
        await client.runs.trigger("remote", {"source": "b"})
    assert active.value.existing_run_id == show_id("run", run.id)
    assert await stored(deck) == 1


async def test_single_flight_by_the_key_of_the_handler(client: Client, deck: Deck) -> None:
    """One run for each key and project; another team's runs do not count."""
    first = await client.runs.trigger("single", {"source": "a"})
    await client.runs.trigger("single", {"source": "b"})
    with pytest.raises(AlreadyActive) as caught:
        await client.runs.trigger("single", {"source": "a", "pages": 3})
    assert caught.value.details()["existing_run_id"] == show_id("run", first.id)
    other = client_of(await team_of(deck.database, "other"))
    await other.runs.trigger("single", {"source": "a"})
    other.close()
    assert await stored(deck) == 3


new_id_of_a_run = new_id()


def _nested(levels: int) -> dict[str, Any]:
    value: Any = 1
    for _ in range(levels - 1):
        value = [value]
    return {"source": "s", "deep": value}


def _params(size: int) -> dict[str, Any]:
    """Params of so many bytes as compact JSON."""
    frame = len('{"source":""}')
    return {"source": "x" * (size - frame)}


FINE: list[tuple[str, dict[str, Any]]] = [
    ("params", {"params": _params(limits.PARAMS_BYTES)}),
    ("params in bytes, not characters", {"params": {"source": "é" * ((limits.PARAMS_BYTES - 13) // 2)}}),
    ("depth", {"params": _nested(limits.JSON_DEPTH - 1)}),
    ("integer", {"params": {"source": "s", "n": 2**53}}),
    ("priority low", {"priority": 1}),
    ("priority high", {"priority": 10}),
    ("attempts low", {"max_attempts": 1}),
    ("attempts high", {"max_attempts": 100}),
    ("timeout none", {"timeout": timedelta(0)}),
    ("timeout high", {"timeout": timedelta(seconds=86_400)}),
    ("name", {"name": "n" * 256}),
    ("queue", {"queue": "q" * 128}),
    ("queue signs", {"queue": "A-z_09"}),
    ("tags", {"tags": {f"{n:0>128}": "v" * 100 for n in range(32)}}),
    ("tag value", {"tags": {"k": "v" * 128}}),
    ("metadata", {"metadata": {"k": "v" * (16_384 - 8)}}),
    ("delay none", {"delay": timedelta(0)}),
    ("delay high", {"delay": timedelta(days=366)}),
    ("time past", {"at": datetime(1970, 1, 1, tzinfo=UTC)}),
    ("time far", {"at": datetime(9998, 12, 31, tzinfo=UTC)}),
    ("time to live", {"ttl": timedelta(days=366)}),
    ("time to live after the delay", {"ttl": timedelta(seconds=61), "delay": timedelta(minutes=1)}),
    ("idempotency key", {"idempotency_key": "k" * 256}),
    ("dedupe key", {"dedupe_key": "é" * 256}),
    ("dedupe window", {"dedupe_key": "k", "dedupe_window": timedelta(days=366)}),
    ("conflict as text", {"dedupe_key": "k", "on_conflict": "replace"}),
    ("generations", {"lineage_depth": limits.LINEAGE_MAX}),
]
BEYOND: list[tuple[str, dict[str, Any], str]] = [
    ("params", {"params": _params(limits.PARAMS_BYTES + 1)}, "262,145 bytes of JSON; at most 262,144"),
    ("params in bytes", {"params": {"source": "é" * (limits.PARAMS_BYTES // 2)}}, "262,144 are allowed"),
    ("10 MB", {"params": _params(10_000_000)}, "262,144 are allowed"),
    ("depth", {"params": _nested(limits.JSON_DEPTH)}, "deeper than 32"),
    ("nodes", {"params": {"source": "s", "many": [0] * 10_000}}, "more than 10,000 values"),
    ("integer", {"params": {"n": 2**53 + 1}}, "2\\^53"),
    ("not a number", {"params": {"n": float("nan")}}, "nan"),
    ("NUL", {"params": {"source": "a\x00b"}}, "NUL"),
    ("NUL in a key", {"params": {"a\x00b": 1}}, "NUL"),
    ("half a surrogate pair", {"params": {"source": "a\ud800b"}}, "surrogate"),
    ("not JSON", {"params": {"source": object()}}, "object"),
    ("bytes", {"params": {"source": b"x"}}, "bytes"),
    ("wrong type", {"params": {"pages": "many"}}, "pages: "),
    ("wrong value", {"params": {"pages": 0}}, "pages: "),
    ("priority low", {"priority": 0}, "between 1 and 10"),
    ("priority high", {"priority": 11}, "between 1 and 10"),
    ("attempts low", {"max_attempts": 0}, "between 1 and 100"),
    ("attempts high", {"max_attempts": 101}, "between 1 and 100"),
    ("timeout low", {"timeout": timedelta(seconds=-1)}, "86400s"),
    ("timeout high", {"timeout": timedelta(seconds=86_401)}, "86400s"),
    ("name", {"name": "n" * 257}, "at most 256 characters, not 257"),
    ("queue", {"queue": "q" * 129}, "at most 128"),
    ("queue empty", {"queue": ""}, "letters, digits"),
    ("queue signs", {"queue": "a b"}, "letters, digits"),
    ("queue line break", {"queue": "default\n"}, "letters, digits"),
    ("queue other digits", {"queue": "q٣"}, "letters, digits"),
    ("queue NUL", {"queue": "a\x00"}, "letters, digits"),
    ("tags", {"tags": {str(n): "v" for n in range(33)}}, "at most 32 tags"),
    ("tag key", {"tags": {"k" * 129: "v"}}, "128 characters"),
    ("tag value", {"tags": {"k": "v" * 129}}, "128 characters"),
    ("metadata", {"metadata": {"k": "v" * (16_384 - 7)}}, "16,385 bytes"),
    ("metadata NUL", {"metadata": {"k": "\x00"}}, "NUL"),
    ("delay low", {"delay": timedelta(seconds=-1)}, "366d"),
    ("delay high", {"delay": timedelta(days=366, seconds=1)}, "366d"),
    ("time to live none", {"ttl": timedelta(0)}, "more than 0s and at most 366d"),
    ("time to live high", {"ttl": timedelta(days=366, seconds=1)}, "at most 366d"),
    (
        "time to live before it is due",
        {"ttl": timedelta(seconds=60), "delay": timedelta(minutes=1)},
        "be over",
    ),
    ("idempotency key", {"idempotency_key": "k" * 257}, "1 to 256 printable characters, not 257"),
    ("idempotency key empty", {"idempotency_key": ""}, "1 to 256"),
    ("idempotency key with an escape", {"idempotency_key": "a\x1b[0m"}, "printable"),
    ("dedupe key", {"dedupe_key": "k" * 257}, "dedupe_key has 1 to 256"),
    ("dedupe key NUL", {"dedupe_key": "a\x00"}, "printable"),
    ("window without a key", {"dedupe_window": timedelta(seconds=1)}, "needs a dedupe key"),
    ("window none", {"dedupe_key": "k", "dedupe_window": timedelta(0)}, "more than 0s"),
    ("window high", {"dedupe_key": "k", "dedupe_window": timedelta(days=366, seconds=1)}, "at most 366d"),
    ("conflict", {"on_conflict": "explode"}, "reject, return_existing, replace, queue_latest, not 'explode'"),
    ("replace without a key", {"on_conflict": "replace"}, "needs a type with single flight, or a dedupe key"),
    (
        "latest in a window",
        {"dedupe_key": "k", "dedupe_window": timedelta(1), "on_conflict": "queue_latest"},
        "without",
    ),
    ("runs to wait for", {"after": [(new_id(), Condition.COMPLETED) for _ in range(101)]}, "at most 100"),
    ("a run twice", {"after": [(new_id_of_a_run, Condition.FAILED)] * 2}, "named once"),
    ("generations", {"lineage_depth": limits.LINEAGE_MAX + 1}, "generation 101"),
    ("delay and time", {"delay": timedelta(0), "at": datetime(2031, 1, 1, tzinfo=UTC)}, "either"),
    ("time without a zone", {"at": datetime(2031, 1, 1)}, "time zone"),  # noqa: DTZ001  what is refused
    ("time too far", {"at": datetime(9999, 12, 31, 23, 59, tzinfo=UTC)}, "1970-9998"),
    ("time too early", {"at": datetime(1, 1, 1, tzinfo=UTC)}, "1970-9998"),
]


async def test_every_limit_at_its_edge(client: Client, deck: Deck) -> None:
    """What is exactly allowed is stored."""
    for name, asked in FINE:
        try:
            run = await client.runs.trigger("sync", asked.get("params"), **_options(asked))
        except JobdeckError as error:
            raise AssertionError(name) from error
        assert run.status == "pending"
    assert await stored(deck) == len(FINE)


def _options(asked: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in asked.items() if key != "params"}


async def test_every_limit_one_beyond(client: Client, deck: Deck) -> None:
    """What is one more, or hostile, is a ValidationError of one line that says what is allowed; nothing is stored."""
    for name, asked, words in BEYOND:
        with pytest.raises(ValidationError, match=words) as caught:
            await client.runs.trigger("sync", asked.get("params"), **_options(asked))
        assert "\n" not in caught.value.message, name
        assert len(caught.value.message) < 500, name
        assert caught.value.exit_code == 2, name
    assert await stored(deck) == 0


async def test_a_job_type_nobody_knows(client: Client, deck: Deck) -> None:
    """Unknown and hostile names are UnknownJobType, one short clean line, before the database sees them."""
    for job_type in ("", "nope", "a\x00b", "a\ud800b", "x" * 10_000_000, "sync\n", "'; --"):
        with pytest.raises(UnknownJobType) as caught:
            await client.runs.trigger(job_type)
        assert caught.value.message.isprintable()
        assert len(caught.value.message) < 300
        assert await stored(deck) == 0


async def test_hostile_text_is_made_inert(client: Client) -> None:
    """Names, tags and who triggered are stored as text that no terminal obeys and both databases can hold."""
    hostile = "a\x00b\x1b[31mc\ud800d\u202ee"
    run = await client.runs.trigger(
        "sync", name=hostile, tags={hostile: hostile}, triggered_by=f"api:{hostile}"
    )
    inert = "a\\x00b\\x1b[31mc\\ud800d\\u202ee"
    assert (run.name, dict(run.tags), run.triggered_by) == (inert, {inert: inert}, f"api:{inert}")


async def test_a_hostile_actor(deck: Deck) -> None:
    """Whoever the operating system says acts cannot break the record or the audit."""
    client = client_of(deck, actor="eve\x00\x1b]0;x\x07" + "y" * 500)
    run = await client.runs.trigger("sync")
    assert run.triggered_by.isprintable()
    assert len(run.triggered_by) <= 200
    await client.runs.cancel(run.id)
    found = (await client.runs.show(run.id)).cancel_requested_by
    assert found is not None
    assert found.isprintable()
    client.close()


async def test_many_at_a_time(client: Client, deck: Deck) -> None:
    """All are validated before the first is stored; 10,000 is the most."""
    ids = await client.runs.trigger_many("sync", [{"source": str(n)} for n in range(150)], priority=2)
    assert [row["id"] for row in await deck.rows(runs, priority=2)] == ids
    with pytest.raises(ValidationError, match="pages"):
        await client.runs.trigger_many("sync", [{}, {}, {"pages": 0}])
    with pytest.raises(ValidationError, match="at most 10,000 runs at a time, not 10,001"):
        await client.runs.trigger_many("sync", [{}] * 10_001)
    assert await stored(deck) == 150
    assert await client.runs.trigger_many("sync", []) == []


async def test_many_of_a_single_flight(client: Client, deck: Deck) -> None:
    """Two of one key in one request are refused whole; one of a key that is taken names the run that holds it."""
    with pytest.raises(Conflict, match="one by one"):
        await client.runs.trigger_many("single", [{"source": "a"}, {"source": "a"}])
    assert await stored(deck) == 0
    (first,) = await client.runs.trigger_many("single", [{"source": "a"}])
    with pytest.raises(AlreadyActive) as caught:
        await client.runs.trigger_many("single", [{"source": "a"}])
    assert caught.value.existing_run_id == show_id("run", first)


async def test_many_of_which_one_is_refused(client: Client, deck: Deck) -> None:
    """The others are stored, and the error names them; where none is, it is what kept the first one out."""
    first = await client.runs.trigger("single", {"source": "b"})
    with pytest.raises(
        PartlyRefused, match="2 of 3 runs are stored, the others are not: a run of single"
    ) as caught:
        await client.runs.trigger_many("single", [{"source": each} for each in "abc"])
    assert caught.value.exit_code == 4
    others = [show_id("run", row["id"]) for row in await deck.rows(runs) if row["id"] != first.id]
    assert sorted(caught.value.details()["run_ids"]) == sorted(others)  # type: ignore[call-overload]
    with pytest.raises(AlreadyActive):
        await client.runs.trigger_many("single", [{"source": each} for each in "abc"])
    assert await stored(deck) == 3


async def test_a_database_that_is_lost_in_the_middle(
    client: Client, deck: Deck, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was refused is tried once more; if in vain, the error names the runs that are stored, and no others are."""
    database = deck.database
    write_many = database.write_many
    calls = 0

    async def refuses_the_second_half(verb: Any, items: Any) -> Any:
        nonlocal calls
        calls += 1
        half = len(items) // 2
        found = await write_many(verb, items[:half])
        return [*found, *[DatabaseUnavailable("broken")] * (len(items) - half)]

    monkeypatch.setattr(database, "write_many", refuses_the_second_half)
    with pytest.raises(PartlyStored, match="6 of 8 runs are stored, the others are not: broken") as caught:
        await client.runs.trigger_many("sync", [{}] * 8)
    assert calls == 2
    stored_ids = [show_id("run", row["id"]) for row in await deck.rows(runs)]
    assert sorted(caught.value.details()["run_ids"]) == sorted(stored_ids)  # type: ignore[call-overload]
    with pytest.raises(DatabaseUnavailable, match="broken"):
        await client.runs.trigger("sync")
    assert await stored(deck) == 6


async def test_a_child_names_its_parent(client: Client) -> None:
    """A run enqueued by another one carries its id."""
    parent = await client.runs.trigger("sync")
    child = await client.runs.trigger("sync", parent_run_id=parent.id, triggered_by="parent:run_x")
    assert (child.parent_run_id, child.triggered_by) == (parent.id, "parent:run_x")
    assert new_id() != child.id
