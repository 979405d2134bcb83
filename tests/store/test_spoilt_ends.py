"""Rows that somebody with the database's password has written: runs end all the same, and others beside them."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from typing import Any, Final, cast
from uuid import UUID

import pytest

from jobdeck.client import Client
from jobdeck.engine.spoilt import SpoiltRows
from jobdeck.errors import DatabaseUnavailable
from jobdeck.ids import new_id, show_id
from jobdeck.model import JobRef, RunExtras
from jobdeck.states import FailureKind, Status
from jobdeck.store import quarantine as quarantine_module
from jobdeck.store.database import Database
from jobdeck.store.expiry import Expire, expire
from jobdeck.store.quarantine import Quarantine, quarantine
from jobdeck.store.schema import (
    job_versions,
    leases,
    outbox,
    runs,
)
from jobdeck.store.transaction import Tx
from tests.store.clients import client_of
from tests.store.deck import Deck
from tests.store.fleet import join
from tests.store.spoiling import BEYOND, DEEP, FULL, spoil

TELLS: Final = RunExtras(callback_url="https://hooks.example.com/", announces=True)
SYNC: Final = {"type": "sync", "params": {"source": "crm"}, "version_policy": "latest"}


@pytest.fixture
async def client(deck: Deck) -> AsyncIterator[Client]:
    """Ada's client, and a worker that takes all."""
    await join(deck.database)
    client = client_of(deck)
    yield client
    client.close()


async def body_of(deck: Deck, run_id: UUID) -> dict[str, Any]:
    (row,) = await deck.rows(outbox, run_id=run_id, channel="callback")
    return dict(json.loads(row["body"])["data"])


def odd_starts(kind: str) -> list[Any]:
    """Times that a run cannot have begun at."""
    return [BEYOND, -BEYOND] + ["<'soon'>", "<x'00'>"] * (kind == "sqlite")


async def test_an_end_at_no_time(deck: Deck, database_kind: str) -> None:
    """A run that began at no time there is ends as any other, recovered, expired or by its worker; the notification
    leaves the time out."""
    for odd in odd_starts(database_kind):
        run = await deck.started(extras=TELLS)
        lost = await deck.started(extras=TELLS, priority=1)
        waiting = await deck.enqueue(extras=TELLS._replace(ttl=timedelta(seconds=1)))
        for run_id in (run.id, lost.id, waiting):
            await spoil(deck, runs, {"started_at": odd}, id=run_id)
        await spoil(deck, runs, {"result": "{", "crash_count": 2}, id=lost.id)
        await spoil(deck, runs, {"result": "{"}, id=waiting)
        assert (await deck.finish(run, result="7")).status is Status.COMPLETED
        assert (await body_of(deck, run.id))["result"] == 7
        deck.forward(2)
        assert await deck.database.write(expire, Expire("test")) == 1
        deck.forward(60)
        assert [end.status for end in await deck.recover()] == [Status.DEAD]
        for run_id in (run.id, lost.id, waiting):
            body = await body_of(deck, run_id)
            assert body["started_at"] is None
            assert body["finished_at"] is not None
        assert (await body_of(deck, waiting))["result_omitted"] == "it cannot be read"


@pytest.mark.parametrize(
    "definition",
    [DEEP, '{"webhook_url":"a\\u0000b\\ud800"}', "<5>", '{"notifiers":7}'],
    ids=["deep", "no characters", "a number", "no list"],
)
async def test_an_end_under_an_odd_definition(deck: Deck, client: Client, definition: str) -> None:
    """Whatever stands in the definition of its job, a run ends and its own callback is told."""
    job = await client.jobs.create("nightly", SYNC)
    if definition == "<5>" and deck.database.differences.name == "postgresql":
        definition = "5"
    await spoil(deck, job_versions, {"definition": definition}, job_id=job.id)
    run = await deck.started(extras=TELLS._replace(job=JobRef(job.id, 1, None)))
    assert (await deck.finish(run)).status is Status.COMPLETED
    assert (await body_of(deck, run.id))["status"] == "completed"


async def test_recovery_goes_on(
    deck: Deck, database_kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A crash that cannot be written, of a run that cannot be put away either, keeps no other run from recovery."""
    bad = await deck.started()
    good = await deck.started(priority=1)
    await spoil(deck, runs, {"crash_count": "<'x'>" if database_kind == "sqlite" else FULL}, id=bad.id)
    _refuse_to_end(monkeypatch, bad.id)
    deck.forward(60)
    assert [end.run_id for end in await deck.recover()] == [good.id]
    assert (await deck.show(good.id)).status is Status.PENDING
    assert f"{show_id('run', bad.id)} stays as it is: its attempt cannot be ended" in caplog.text
    monkeypatch.undo()
    assert [(end.run_id, end.status) for end in await deck.recover()] == [(bad.id, Status.FAILED)]


def _refuse_to_end(monkeypatch: pytest.MonkeyPatch, bad: UUID) -> None:
    end = quarantine_module._end

    def end_others(tx: Tx, row: Any, item: Quarantine) -> None:
        if row.id == bad:
            raise OverflowError
        end(tx, row, item)

    monkeypatch.setattr(quarantine_module, "_end", end_others)


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize("values", [{"beat_at": "<'x'>"}, {"message": "<x'ff'>", "beat_at": "<x'ff'>"}])
async def test_recovery_from_odd_leases(deck: Deck, values: dict[str, Any]) -> None:
    """A beat at no time: nobody can say for how long its worker was silent, and the run is put away."""
    bad, good = await deck.started(), await deck.started(priority=1)
    await spoil(deck, leases, values, run_id=bad.id)
    deck.forward(60)
    ends = {end.run_id: end.status for end in await deck.recover()}
    assert ends == {bad.id: Status.FAILED, good.id: Status.PENDING}


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_recovery_of_odd_types(deck: Deck) -> None:
    """Bytes where the type of a run belongs are counted as any other type."""
    bad, good = await deck.started(), await deck.started(priority=1)
    await spoil(deck, runs, {"job_type": "<x'00'>"}, id=bad.id)
    deck.forward(60)
    assert {end.run_id for end in await deck.recover()} == {bad.id, good.id}


@pytest.mark.parametrize("approval", [False, True])
async def test_expiry_goes_on(deck: Deck, approval: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose end cannot be written is put away, and the others whose time is over end."""
    extras = RunExtras(ttl=timedelta(seconds=1), requires_approval=approval)
    bad, good = await deck.enqueue(extras=extras), await deck.enqueue(extras=extras)
    await spoil(deck, runs, {"revision": FULL}, id=bad)
    if deck.database.differences.name == "sqlite":
        # Its numbers grow without end, so that another reason is needed there.
        _fail_announcing(monkeypatch, bad)
        await spoil(deck, runs, {"announces": True}, id=bad)
    deck.forward(2)
    assert await deck.database.write(expire, Expire("test")) == 2
    assert (await deck.show(good)).status is Status.EXPIRED
    run = await deck.show(bad)
    assert (run.status, run.failure_kind) == (Status.CANCELLED, FailureKind.REJECTED)
    assert "its time is over and it cannot be ended" in (run.error or "")


def _fail_announcing(monkeypatch: pytest.MonkeyPatch, bad: UUID) -> None:
    def announce(tx: Tx, run_ids: Sequence[UUID]) -> None:
        if bad in run_ids:
            raise OverflowError

    monkeypatch.setattr("jobdeck.store.waiting.announce", announce)


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize("name", ["gate", "blocked"])
async def test_words_for_the_numbers_of_a_claim(deck: Deck, name: str) -> None:
    """A run that cannot be judged for a text where the number of its limits or its waits belongs is put away."""
    bad, good = await deck.enqueue_many(2)
    await spoil(deck, runs, {name: "<'x'>"}, id=bad)
    assert await deck.database.write(quarantine, Quarantine("test")) == [bad]
    assert [run.id for run in await deck.claim(5)] == [good]
    (row,) = await deck.rows(runs, id=bad)
    assert (row["status"], row["gate"], row["blocked"]) == ("cancelled", 0, 0)


async def test_a_place_under_a_key_is_given_on(client: Client, deck: Deck) -> None:
    """A run that is put away while it runs leaves its place to the next one under its key; one that waits has none."""
    facts = SYNC | {"concurrency_key": "crm", "max_concurrency": 5}
    job = await client.jobs.create("hourly", facts)
    ids = [(await client.jobs.trigger(job.id)).id for _ in range(3)]
    (first,) = await deck.claim(3)
    assert first.id == ids[0]
    assert await deck.claim(3) == []
    assert await deck.database.write(quarantine, Quarantine("test", first.id)) == [first.id]
    (second,) = await deck.claim(3)
    assert second.id == ids[1]
    assert await deck.database.write(quarantine, Quarantine("test", ids[2])) == [ids[2]]
    (row,) = await deck.rows(runs, id=ids[2])
    assert (bool(row["gated"]), row["blocked"]) == (False, 0)


class _Refusing:
    """A database that cannot end what it is asked to."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def submit(self, parts: Sequence[Any], deliver: Callable[[list[list[Any]]], None]) -> None:
        deliver([[self._error] for _ in parts])


class _Ending:
    """A database that ends what it is told to, the next time it is asked."""

    def __init__(self) -> None:
        self.next: list[UUID] = []

    def submit(self, parts: Sequence[Any], deliver: Callable[[list[list[Any]]], None]) -> None:
        deliver([[self.next] for _ in parts])


def test_claims_that_fail_of_the_same_rows() -> None:
    """The first has them ended; the second finds nothing more to end, and looks again instead of giving up.

    One that was sent afterwards, and fails with nothing to end, is the end of its worker.
    """
    database, again, helpless = _Ending(), [], list[Exception]()
    spoilt = SpoiltRows(
        cast("Database", database), "host:1", on_ended=lambda: again.append(1), on_helpless=helpless.append
    )
    cause = OverflowError("too large")
    database.next = [new_id()]
    spoilt.end_waiting(cause, 0)
    database.next = []
    spoilt.end_waiting(cause, 0)
    assert (len(again), helpless, spoilt.times) == (2, [], 1)
    spoilt.end_waiting(cause, spoilt.times)
    assert (len(again), helpless) == (2, [cause])


@pytest.mark.parametrize("error", [OverflowError("too large"), DatabaseUnavailable("gone")])
async def test_a_run_that_cannot_be_put_away_is_told(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names the run, and the cause."""
    helpless: list[Exception] = []
    spoilt = SpoiltRows(
        cast("Database", _Refusing(error)), "host:1", on_ended=lambda: None, on_helpless=helpless.append
    )
    run_id = new_id()
    with caplog.at_level(logging.ERROR):
        spoilt.end_run(run_id, "its outcome cannot be stored", ValueError("odd"))
    assert (
        f"{show_id('run', run_id)} cannot be ended: its outcome cannot be stored (ValueError)" in caplog.text
    )
    assert str(error) in caplog.text
    assert helpless == []
