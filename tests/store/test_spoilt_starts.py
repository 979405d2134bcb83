"""Templates, versions and params that somebody has written by hand: what they spoil is theirs alone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final
from uuid import UUID

import pytest
from sqlalchemy import Table

from jobdeck.client import Client
from jobdeck.states import Condition, FailureKind, Status
from jobdeck.store.finish import Recover
from jobdeck.store.quarantine import Quarantine, quarantine
from jobdeck.store.schema import (
    checkpoints,
    job_templates,
    job_versions,
    runs,
)
from jobdeck.store.transaction import Rank, Tx, verb
from tests.store.clients import client_of
from tests.store.deck import Deck
from tests.store.fleet import join
from tests.store.pulling import QUEUE
from tests.store.spoiling import DEEP, spoil
from tests.store.test_chain import made, runs_of, started, told

SYNC: Final = {"type": "sync", "params": {"source": "crm"}, "version_policy": "latest"}


@pytest.fixture
async def client(deck: Deck) -> AsyncIterator[Client]:
    """Ada's client, and a worker that takes all."""
    await join(deck.database)
    client = client_of(deck)
    yield client
    client.close()


ODD_TEMPLATES: Final[dict[str, Callable[[str], str]]] = {
    "deep": lambda _: DEEP,
    "beyond the columns": lambda stored: json.dumps(json.loads(stored) | {"max_attempts": 10**30}),
    "a number too large": lambda stored: json.dumps(json.loads(stored) | {"priority": 10**12}),
    "half a character": lambda stored: json.dumps(json.loads(stored) | {"name": "\ud800"}),
    "a character there is none of": lambda stored: json.dumps(json.loads(stored) | {"name": "a\0b"}),
    "an endless delay": lambda stored: json.dumps(json.loads(stored) | {"delay": 8e13}),
    "no team": lambda stored: json.dumps({**json.loads(stored), "team_id": None}),
}


@pytest.mark.parametrize("how", ODD_TEMPLATES)
@pytest.mark.parametrize("by", ["finish", "recover", "quarantine"])
async def test_an_odd_template(client: Client, deck: Deck, how: str, by: str) -> None:
    """What cannot be started keeps neither the outcome nor the other starts from being stored, and is told."""
    first, bad, good = await made(client, "first", "bad", "good")
    for job in (bad, good):
        await client.jobs.depend(job.id, first.id, Condition.FINISHED)
    (row,) = await deck.rows(job_templates, job_id=bad.id)
    await spoil(deck, job_templates, {"run": ODD_TEMPLATES[how](row["run"])}, job_id=bad.id)
    parent = await started(deck, client, first)
    if by == "finish":
        await deck.finish(parent)
    elif by == "recover":
        await spoil(deck, runs, {"crash_count": 2}, id=parent.id)
        deck.forward(60)
        assert [end.run_id for end in await deck.recover()] == [parent.id]
    else:
        assert await deck.database.write(quarantine, Quarantine("test", parent.id)) == [parent.id]
    assert (await deck.show(parent.id)).status not in (Status.RUNNING, Status.PENDING)
    assert len(await runs_of(deck, client, good)) == 1
    words = sorted(await told(client, parent))
    stored = len(await runs_of(deck, client, bad))
    # SQLite takes some of these as they are.
    assert words[0].startswith("dependant_not_started") if not stored else len(words) == 2
    assert stored == (how in HARMLESS.get(deck.database.differences.name, ()))


HARMLESS: Final[dict[str, tuple[str, ...]]] = {"sqlite": ("a character there is none of",)}


@pytest.mark.parametrize(
    ("table", "values"),
    [
        (runs, {"overrides": DEEP}),
        (runs, {"overrides": "[]"}),
        (runs, {"overrides": '{"params": 7, "options": 7}'}),
        (job_versions, {"definition": DEEP}),
        (job_versions, {"definition": "7"}),
    ],
    ids=["deep overrides", "a list", "numbers", "a deep definition", "a number"],
)
async def test_an_odd_newer_version(client: Client, deck: Deck, table: Table, values: dict[str, Any]) -> None:
    """A queued run that cannot move to the newest version runs as it was made."""
    job = await client.jobs.create("latest", SYNC)
    run = await client.jobs.trigger(job.id)
    await client.jobs.update(job.id, {"params": {"source": "shop"}})
    where = {"id": run.id} if table is runs else {"job_id": job.id}
    await spoil(deck, table, values, **where)
    (claimed,) = await deck.claim()
    assert (claimed.id, claimed.rare.job_version) == (run.id, 1)


@pytest.mark.parametrize(
    "params",
    ["{", DEEP, "[NaN]", f'{{"n":{"9" * 5_000}}}', "<x'80'>"],
    ids=["half", "deep", "no number", "5,000 digits", "bytes"],
)
async def test_a_claim_keeps_its_tokens(deck: Deck, client: Client, params: str) -> None:
    """Of several runs that a program claims one cannot be read: it is ended, and the others are the program's."""
    if params[0] == "<" and deck.database.differences.name == "postgresql":
        params = ""
    await client.queues.create(QUEUE, pull=True)
    bad, saved, *good = await deck.enqueue_many(4, queue=QUEUE)
    await spoil(deck, runs, {"params": params}, id=bad)
    await spoil(deck, runs, {"attempt": 1, "backoff": DEEP}, id=saved)
    await deck.database.write(_save, saved)
    assert [work.run_id for work in await client.queues.claim(QUEUE, count=10)] == good
    for run_id in (bad, saved):
        run = await deck.show(run_id)
        assert (run.status, run.failure_kind) == (Status.FAILED, FailureKind.INVALID_PARAMS)
        assert run.error


@verb(Rank.CHANGE)
def _save(tx: Tx, items: Sequence[UUID]) -> Sequence[None]:
    """A checkpoint that is no JSON."""
    for run_id in items:
        row = {"run_id": run_id, "fence": 0, "state": "{", "updated_at": 0}
        tx.conn.execute(checkpoints.insert(), row)
    return [None] * len(items)


async def test_what_is_held_is_told(deck: Deck, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the look for what others have left fails, the runs that are claimed already come with their tokens."""
    await client.queues.create(QUEUE, pull=True)
    run_id = await deck.enqueue(queue=QUEUE)

    @verb(Rank.FINISH)
    def broken(tx: Tx, items: Sequence[Recover]) -> Sequence[Any]:
        raise ZeroDivisionError

    monkeypatch.setattr("jobdeck.client.queues.recover", broken)
    (work,) = await client.queues.claim(QUEUE, count=2)
    assert work.run_id == run_id
    assert (await client.queues.complete(run_id, work.token)).status is Status.COMPLETED
