"""Bulk operations that somebody has written by hand: closed, and in nobody's way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final
from uuid import UUID

import pytest
from sqlalchemy import Table

from jobdeck.bulk import BulkKind, BulkState
from jobdeck.client import Client
from jobdeck.model import RunFilter
from jobdeck.store.bulk import steps as bulk_store
from jobdeck.store.bulk.steps import next_step, work_step
from jobdeck.store.drain import nothing_left
from jobdeck.store.schema import (
    bulk_operations,
    bulk_steps,
)
from jobdeck.store.transaction import Rank, Tx, Verb, verb
from tests.store.clients import client_of
from tests.store.deck import Deck
from tests.store.fleet import join
from tests.store.spoiling import DEEP, FULL, spoil


@pytest.fixture
async def client(deck: Deck) -> AsyncIterator[Client]:
    """Ada's client, and a worker that takes all."""
    await join(deck.database)
    client = client_of(deck)
    yield client
    client.close()


ODD_BULK: Final[dict[str, tuple[Table, dict[str, Any]]]] = {
    "a kind": (bulk_operations, {"kind": "os.system"}),
    "half a target": (bulk_steps, {"targets": b"abc"}),
    "no targets": (bulk_steps, {"targets": b""}),
    "samples": (bulk_operations, {"samples": "["}),
    "deep samples": (bulk_operations, {"samples": DEEP}),
    "a list of refusals": (bulk_operations, {"refused": "[]", "samples": "{}"}),
    "targets in words": (bulk_steps, {"targets": "<'x'>"}),
    "a number in words": (bulk_operations, {"done": "<'x'>"}),
}


@pytest.mark.parametrize("how", ODD_BULK)
async def test_an_odd_bulk_operation(deck: Deck, client: Client, how: str) -> None:
    """It is closed; the next operation is done, and a draining worker waits for neither."""
    table, values = ODD_BULK[how]
    if "<'x'>" in values.values() and deck.database.differences.name == "postgresql":
        values = {name: b"x" if name == "targets" else FULL for name in values}
    await deck.enqueue_many(3)
    bad = await client.bulk.start(await client.bulk.plan(BulkKind.CANCEL, RunFilter()))
    await deck.cancel((await deck.page())[0].id)
    await spoil(deck, table, values, **{"id" if table is bulk_operations else "bulk_id": bad.id})
    good = await client.bulk.start(await client.bulk.plan(BulkKind.CANCEL, RunFilter()))
    await _work_all(deck)
    assert (await client.bulk.show(good.id)).state is BulkState.COMPLETED
    (row,) = await deck.rows(bulk_operations, id=bad.id)
    # A number that may still be added to is no more than wrong.
    assert row["state"] == BulkState.STOPPED or values == {"done": FULL}
    assert row["finished_at"] is not None
    assert await deck.rows(bulk_steps) == []
    assert await _drained(deck)


async def test_an_operation_that_was_opened_again(deck: Deck, client: Client) -> None:
    """One without steps is closed too."""
    await deck.enqueue()
    bulk = await client.bulk.start(await client.bulk.plan(BulkKind.CANCEL, RunFilter()))
    await _work_all(deck)
    await spoil(deck, bulk_operations, {"finished_at": None}, id=bulk.id)
    assert not await _drained(deck)
    await _work_all(deck)
    assert await _drained(deck)


async def test_a_run_that_no_act_can_take(
    deck: Deck, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails otherwise than in the database is counted as failed, and the others of the step are done."""
    ids = await deck.enqueue_many(3)
    bulk = await client.bulk.start(await client.bulk.plan(BulkKind.CANCEL, RunFilter()))
    act, item_of = bulk_store._ACTS[BulkKind.CANCEL]
    monkeypatch.setitem(bulk_store._ACTS, BulkKind.CANCEL, (_but(act, ids[1]), item_of))
    await _work_all(deck)
    bulk = await client.bulk.show(bulk.id)
    assert (bulk.state, bulk.done, bulk.skipped, bulk.failed) == (BulkState.COMPLETED, 2, 0, 1)


def _but(act: Verb[Any, Any], bad: UUID) -> Verb[Any, Any]:
    @verb(Rank.CHANGE)
    def run(tx: Tx, items: Sequence[Any]) -> Sequence[Any]:
        if any(item.run_id == bad for item in items):
            raise OverflowError
        return act(tx, items)

    return run


async def _work_all(deck: Deck) -> None:
    while (step := await deck.database.read(next_step)) is not None:
        await deck.database.write(work_step, step)


async def _drained(deck: Deck) -> bool:
    database = deck.database
    return await database.read(lambda conn: nothing_left(conn, database.now_of(conn), ("sync",), ()))
