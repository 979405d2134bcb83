"""Whoever waits for a commit that got no answer gets one, whatever goes wrong with the question."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import uuid4

import pytest

from jobdeck.errors import DatabaseUnavailable
from jobdeck.ids import new_id
from jobdeck.store.batch import Group, Results, Unit
from jobdeck.store.open import database_of
from jobdeck.store.postgres.database import PostgresDatabase
from jobdeck.store.quarantine import Quarantine, quarantine
from jobdeck.store.transaction import Hint
from jobdeck.store.unknown_outcome import Doubt, Doubts, Receipt
from tests.engine.gate import PATIENCE


def doubt_about(answer: asyncio.Future[Results]) -> Doubt:
    """A commit of one item, whose result would be an empty list."""
    units = Group([(quarantine, [Quarantine("host:1", new_id())])], answer.set_result).units(10)
    return Doubt(Receipt(uuid4(), 1), units, [[[]]], Hint.NONE)


async def test_a_question_that_fails_for_no_database() -> None:
    """A driver that stumbles over its own broken session, say: it is asked again."""
    answer: asyncio.Future[Results] = asyncio.get_running_loop().create_future()
    errors = [RuntimeError("a broken session")]

    async def ask(_receipt: Receipt) -> bool:
        if errors:
            raise errors.pop()
        return True

    def settled(units: Sequence[Unit], _hints: Hint) -> None:
        for unit in units:
            if unit.group.complete:
                unit.group.deliver()

    doubts = Doubts(ask, settled=settled, again=lambda units: None)
    doubts.add(doubt_about(answer))
    async with asyncio.timeout(PATIENCE):
        assert await answer == [[[]]]


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_what_proves_not_stored_while_the_last_lane_ends(database_url: str) -> None:
    """It is queued once more when no lane is left to take it: who waits is told that the database is closed."""
    database = database_of(database_url)
    assert isinstance(database, PostgresDatabase)
    await database.open()
    answer: asyncio.Future[Results] = asyncio.get_running_loop().create_future()
    stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def ask(_receipt: Receipt) -> bool:
        return await stored

    database._doubts._ask = ask
    database._doubts.add(doubt_about(answer))
    database._lanes[-1].add_done_callback(lambda _: stored.set_result(False))
    await database.close()
    async with asyncio.timeout(PATIENCE):
        ((found,),) = await answer
    assert isinstance(found, DatabaseUnavailable)
