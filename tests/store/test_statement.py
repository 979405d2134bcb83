"""Compiled statements mean what Core's own mean: lists of any length, shared values, types of the columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Select, select

from jobdeck.ids import new_id
from jobdeck.store.database import Database
from jobdeck.store.differences import Differences
from jobdeck.store.given import Rows
from jobdeck.store.schema import checkpoints, run_counts, workers
from jobdeck.store.statement import statement
from jobdeck.store.transaction import Rank, Tx, verb

TEAM, OTHER = new_id(), new_id()
_plain = Rows(run_counts, ("team_id", "status", "slot", "runs"))
_keys = ("team_id", "status", "slot")
_adding = Rows(run_counts, ("team_id", "status", "slot", "runs"), keys=_keys, adds="runs", or_new=True)
_setting = Rows(run_counts, ("slot", "runs", "team_id", "status"), keys=_keys)
_checkpoints = Rows(checkpoints, ("run_id", "fence", "state", "updated_at"))
_growing = Rows(run_counts, ("team_id", "runs"), keys=("team_id",), adds="runs")


@statement
def _of_slots(differences: Differences) -> Select[Any]:
    found = select(run_counts.c.team_id, run_counts.c.slot, run_counts.c.runs)
    return found.where(differences.among(run_counts.c.slot, "slots"), run_counts.c.status == "pending")


@statement
def _of_teams(differences: Differences) -> Select[Any]:
    return select(run_counts.c.team_id).where(differences.among(run_counts.c.team_id, "teams"))


@verb(Rank.CHANGE)
def act(tx: Tx, items: Sequence[Callable[[Tx], Any]]) -> Sequence[Any]:
    return [item(tx) for item in items]


async def stored(database: Database) -> dict[tuple[UUID, str, int], int]:
    rows = await database.read(lambda conn: conn.execute(select(run_counts)).all())
    return {(row.team_id, row.status, row.slot): row.runs for row in rows}


@pytest.mark.parametrize("count", [0, 1, 2, 3, 17, 64, 65, 1_000])
async def test_a_list_of_any_length_finds_its_rows(database: Database, count: int) -> None:
    """As many as are asked for and there, none where the list is empty."""
    rows = [(TEAM, "pending", slot, slot * 10) for slot in range(70)]
    await database.write(act, lambda tx: _plain.write(tx, rows))
    found = await database.write(act, lambda tx: _of_slots.all(tx, {"slots": range(5, 5 + count)}))
    assert sorted((row.slot, row.runs) for row in found) == [
        (n, n * 10) for n in range(5, min(5 + count, 70))
    ]
    assert {row.team_id for row in found} <= {TEAM}


async def test_ids_go_in_and_out_as_ids(database: Database) -> None:
    """In values and in lists; what comes back is a UUID that compares with ours."""
    await database.write(act, lambda tx: _plain.write(tx, [(TEAM, "a", 0, 1), (OTHER, "a", 0, 1)]))
    found = await database.write(act, lambda tx: _of_teams.all(tx, {"teams": {OTHER, new_id(), new_id()}}))
    assert [row.team_id for row in found] == [OTHER]
    assert hash(found[0].team_id) == hash(OTHER)


@pytest.mark.parametrize(
    "rows",
    [
        [(TEAM, "pending", 0, 5)],
        [(TEAM, "pending", slot, 5) for slot in range(3)],
        [(TEAM, "pending", 0, 5), (OTHER, "running", 1, 6), (TEAM, "running", 0, 5)],
        [],
    ],
    ids=["one", "all but one shared", "nothing shared", "none"],
)
async def test_rows_are_written_whatever_they_share(
    database: Database, rows: list[tuple[UUID, str, int, int]]
) -> None:
    """New rows, rows that grow, and rows that are set, given alike or not."""
    await database.write(act, lambda tx: _adding.write(tx, rows))
    await database.write(act, lambda tx: _adding.write(tx, rows))
    assert await stored(database) == {(team, status, slot): 2 * runs for team, status, slot, runs in rows}
    set_to = [(slot, runs + 1, team, status) for team, status, slot, runs in rows]
    await database.write(act, lambda tx: _setting.write(tx, set_to))
    assert await stored(database) == {(team, status, slot): runs + 1 for team, status, slot, runs in rows}


async def test_what_is_given_adds_to_every_row_of_its_key(database: Database) -> None:
    """A row that nobody names stays as it is, and one that is not there is not made."""
    await database.write(act, lambda tx: _plain.write(tx, [(TEAM, "x", 0, 1), (TEAM, "x", 1, 2)]))
    await database.write(act, lambda tx: _growing.write(tx, [(TEAM, 7), (OTHER, 8)]))
    assert await stored(database) == {(TEAM, "x", 0): 8, (TEAM, "x", 1): 9}


@pytest.mark.parametrize("count", [1, 2, 3, 1_000, 1_001, 2_500])
async def test_any_number_of_rows_is_written(database: Database, count: int) -> None:
    """More than one statement can take, too; spare places make no rows."""
    rows = [(TEAM, f"status {number % 3}", number, number) for number in range(count)]
    await database.write(act, lambda tx: _plain.write(tx, rows))
    assert await stored(database) == {row[:3]: row[3] for row in rows}


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_statements_keep_little_of_what_they_were_given(database: Database) -> None:
    """The driver keeps statements with their last values: large rows go in few at a time, small ones in bounds."""
    sizes: list[int] = []

    def look(tx: Tx) -> None:
        driver: Any = tx.conn.connection.driver_connection
        driver.set_trace_callback(lambda sql: sizes.append(len(sql)))
        try:
            _checkpoints.write(tx, [(new_id(), 1, str(n % 10) * 100_000, 7) for n in range(20)])
            _plain.write(tx, [(TEAM, "y", slot, slot) for slot in range(1_000)])
        finally:
            driver.set_trace_callback(None)

    await database.write(act, look)
    assert max(sizes) < 300_000
    assert len(sizes) == 10 + 8


def test_flags_come_back_as_flags() -> None:
    """SQLite has numbers for them; `stalled` of a worker is read as a bool all the same."""
    from jobdeck.store.sqlite.differences import SqliteDifferences
    from jobdeck.store.statement import from_driver

    convert = from_driver(workers.c.stalled.type, SqliteDifferences())
    assert convert is not None
    assert [convert(value) for value in (0, 1)] == [False, True]
