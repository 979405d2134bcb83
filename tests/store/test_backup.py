"""Backups are whole and consistent; a restore gives back what was there, and nobody of before can write to it."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, select

from jobdeck.errors import Conflict, DatabaseError, StaleLease, ValidationError, WrongRevision
from jobdeck.ids import new_id
from jobdeck.model import Progress, RunExtras, TeamScope
from jobdeck.states import AttemptOutcome, Condition, Status
from jobdeck.store.database import Database
from jobdeck.store.fleet import Leave, Register, leave, register
from jobdeck.store.house import portable
from jobdeck.store.house.backup import back_up
from jobdeck.store.house.portable import carried
from jobdeck.store.house.prune import drop_runs
from jobdeck.store.house.restore import EPOCH_STEP, Restored, Wish, restore
from jobdeck.store.leases import Beat, SaveCheckpoint, beat, save_checkpoint
from jobdeck.store.leases import report as send_report
from jobdeck.store.schema import runs, store_epochs, workers
from jobdeck.store.scopes import find_project, find_team
from jobdeck.store.transaction import Rank, Tx, verb
from tests.databases import opened
from tests.postgres import PostgresServer, create_database, drop_database
from tests.store.deck import WORKER, Deck, report, team_of

ANN = Wish("ann")
Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture(params=["sqlite", "postgresql"])
def other_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Another database, with nothing in it, not even a schema."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'other.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = create_database(server)
    yield url
    drop_database(server, url)


def everything(conn: Connection) -> Rows:
    """All rows that a backup carries."""
    return {
        table.name: [
            dict(row) for row in conn.execute(select(table).order_by(*table.primary_key.columns)).mappings()
        ]
        for table in carried()
    }


async def filled(database: Database) -> Deck:
    """A team with runs of every status, and what hangs on them."""
    deck = await team_of(database, "acme")
    for status in Status:
        if status is not Status.RUNNING:
            await deck.with_status(status)
    run = await deck.started(priority=1)
    await deck.database.write(save_checkpoint, SaveCheckpoint(run.id, run.fence, '{"page":2}'))
    await deck.finish(run, last_report=report(run, "ünïcode", "two", progress=Progress(3, 4, message="half")))
    after = RunExtras(after=((run.id, Condition.COMPLETED),), idempotency_key="k", request="r")
    await deck.enqueue(extras=after, params='{"a":[1,2.5,null,"\\u0000"]}', timeout_s=1.5)
    return deck


async def test_what_comes_back_is_what_was_there(
    database: Database, database_url: str, other_url: str, tmp_path: Path
) -> None:
    """Every row of every table but fences, from either database into either; new rows are numbered on."""
    await filled(database)
    before = await database.read(everything)
    file = tmp_path / "backup"
    made = await back_up(database_url, file)
    assert (made.path, made.size, made.runs) == (file, file.stat().st_size, len(before["runs"]))
    assert await restore(other_url, file, ANN) == Restored(1, len(before["runs"]), 0)
    async with opened(other_url) as other:
        after = await other.read(everything)
        (epoch,) = after.pop("store_epochs")
        assert (epoch["epoch"], epoch["restored_by"], before.pop("store_epochs")) == (1, "ann", [])
        assert counted(after.pop("run_counts")) == counted(before.pop("run_counts"))
        for row in before["runs"]:
            row["fence"] += EPOCH_STEP
        for name in before:
            assert after[name] == before[name], name
        again = Deck(other, *await scope_of(other))
        fresh = await again.started(priority=1)
        await again.finish(fresh, last_report=report(fresh, "goes on"))
        numbers = [row["id"] for row in (await other.read(everything))["run_logs"]]
        assert max(numbers) == numbers[-1] > max(row["id"] for row in before["run_logs"])


def names_in(folder: Path, part: str) -> list[str]:
    return [path.name for path in folder.iterdir() if part in path.name]


def counted(rows: list[dict[str, Any]]) -> dict[tuple[Any, str], int]:
    found: dict[tuple[Any, str], int] = {}
    for row in rows:
        key = (row["team_id"], row["status"])
        found[key] = found.get(key, 0) + row["runs"]
    return {key: number for key, number in found.items() if number}


async def scope_of(database: Database) -> tuple[Any, Any]:
    team = await database.read(find_team, "acme")
    assert team is not None
    project = await database.read(find_project, team.id, "main")
    return TeamScope(team.id, team.slug), project


async def test_a_backup_stands_alone_and_is_private(deck: Deck, database_url: str, tmp_path: Path) -> None:
    """One file of SQLite without a log beside it, readable by its owner alone, whole."""
    await deck.enqueue_many(10)
    made = await back_up(database_url, tmp_path / "b c?%41.db")
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    assert names_in(tmp_path, "b c") == [made.path.name]
    with sqlite3.connect(made.path) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert conn.execute("PRAGMA journal_mode").fetchall() == [("delete",)]
        assert conn.execute("SELECT count(*) FROM runs").fetchall() == [(10,)]
    conn.close()


async def test_a_backup_is_of_one_moment(deck: Deck, database_url: str, tmp_path: Path) -> None:
    """While others go on enqueueing and finishing, counters and rows of every backup agree."""
    stop = asyncio.Event()

    async def work() -> None:
        while not stop.is_set():
            await deck.enqueue_many(20)
            for run in await deck.claim(15):
                await deck.finish(run)

    working = asyncio.create_task(work())
    sizes = []
    for number in range(4):
        made = await back_up(database_url, tmp_path / f"{number}.db")
        with portable.reading(made.path) as conn:
            rows = everything(conn)
        by_status: dict[tuple[Any, str], int] = {}
        for row in rows["runs"]:
            key = (row["team_id"], row["status"])
            by_status[key] = by_status.get(key, 0) + 1
        assert counted(rows["run_counts"]) == by_status
        ended = {row["id"] for row in rows["runs"] if row["status"] == "completed"}
        assert {row["run_id"] for row in rows["attempts"]} == ended
        assert {row["run_id"] for row in rows["leases"]} == {
            row["id"] for row in rows["runs"] if row["status"] == "running"
        }
        sizes.append(made.runs)
    stop.set()
    await working
    assert sizes == sorted(sizes)
    assert sizes[-1] > sizes[0]


async def test_a_failed_backup_leaves_nothing(
    deck: Deck, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The older one stays as it was; what was begun is gone."""
    file = tmp_path / "backup"
    await back_up(database_url, file)
    before = file.read_bytes()
    await deck.enqueue()

    def damaged(path: Path) -> None:
        raise ValidationError("damaged")

    monkeypatch.setattr(portable, "check_whole", damaged)
    with pytest.raises(ValidationError, match="damaged"):
        await back_up(database_url, file, overwrite=True)
    assert file.read_bytes() == before
    assert names_in(tmp_path, "partial") == []
    monkeypatch.undo()
    assert (await back_up(database_url, file, overwrite=True)).runs == 1


async def test_nothing_is_overwritten_unasked(deck: Deck, database_url: str, tmp_path: Path) -> None:
    """A file, a folder, a folder that is not there, a dangling link; and never the database itself."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        with pytest.raises(Conflict, match="--force"):
            await back_up(database_url, tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"
    for path in (tmp_path, tmp_path / "none" / "file"):
        with pytest.raises(ValidationError):
            await back_up(database_url, path, overwrite=True)
    if database_url.startswith("sqlite"):
        with pytest.raises(ValidationError, match="the database itself"):
            await back_up(database_url, Path(database_url.removeprefix("sqlite:///")), overwrite=True)


async def test_a_database_without_schema_has_no_backup(other_url: str, tmp_path: Path) -> None:
    """It is said to be none, and no file is made."""
    with pytest.raises(DatabaseError):
        await back_up(other_url, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


@verb(Rank.CHANGE)
def drop(tx: Tx, items: Sequence[UUID]) -> Sequence[None]:
    drop_runs(tx.conn, items)
    return [None] * len(items)


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_what_was_deleted_is_not_in_a_backup(deck: Deck, database_url: str, tmp_path: Path) -> None:
    """Free pages of the file, with what stood in them, stay behind."""
    run_id = await deck.enqueue(params='{"word":"deleted-word"}')
    await deck.database.write(drop, run_id)
    made = await back_up(database_url, tmp_path / "backup")
    assert b"deleted-word" not in made.path.read_bytes()


async def test_who_worked_before_is_fenced_off(deck: Deck, database_url: str, tmp_path: Path) -> None:
    """After a restore in place, what an old worker holds is worth nothing: beat, report, checkpoint and finish."""
    held = await deck.started()
    asked = await deck.started()
    await deck.cancel(asked.id)
    file = tmp_path / "backup"
    await back_up(database_url, file)
    assert await restore(database_url, file, Wish("ann", replace=True)) == Restored(1, 2, 2)
    gone = Beat(WORKER, (held.id, asked.id), 30_000_000, False, 2, 0, "live")
    assert await deck.database.write(beat, gone) == []
    for write in (
        deck.finish(held),
        deck.database.write(send_report, report(held, "late")),
        deck.database.write(save_checkpoint, SaveCheckpoint(held.id, held.fence, "{}")),
    ):
        with pytest.raises(StaleLease):
            await write
    ended = await deck.show(asked.id)
    assert (ended.status, [each.outcome for each in ended.attempts]) == (Status.CANCELLED, ["interrupted"])
    (again,) = await deck.claim()
    assert (again.id, again.attempt, again.failures, again.crash_count) == (held.id, 2, 0, 0)
    assert again.fence == held.fence + EPOCH_STEP + 1
    await deck.finish(again)
    with pytest.raises(StaleLease):
        await deck.finish(held)
    done = await deck.show(held.id)
    assert [each.outcome for each in done.attempts] == ["interrupted", "completed"]
    assert done.attempts[0].error == "the database was restored from a backup"


async def test_each_restore_begins_an_epoch_of_its_own(deck: Deck, database_url: str, tmp_path: Path) -> None:
    """Of the same old backup too: its runs never get a fence that an earlier restore has handed out."""
    run_id = await deck.enqueue()
    file = tmp_path / "backup"
    await back_up(database_url, file)
    fences, again = [], Wish("ann", replace=True)
    for epoch in (1, 2, 3):
        assert (await restore(database_url, file, again)).epoch == epoch
        fences += [run.fence for _ in range(2) if (run := await claimed(deck))]
    assert fences == [1_000_001, 1_000_002, 2_000_001, 2_000_002, 3_000_001, 3_000_002]
    later = tmp_path / "later"
    await back_up(database_url, later)
    assert (await restore(database_url, later, again)).epoch == 4
    (row,) = await deck.rows(runs, id=run_id)
    assert row["fence"] == 4_000_002
    assert [row["epoch"] for row in await deck.rows(store_epochs)] == [3, 4]


async def claimed(deck: Deck) -> Any:
    """The run, claimed and given back."""
    (run,) = await deck.claim()
    await deck.finish(run, AttemptOutcome.INTERRUPTED)
    return run


async def test_a_database_that_is_in_use_is_refused(deck: Deck, database_url: str, tmp_path: Path) -> None:
    """One with runs, or teams, or jobs of people; one with workers that are alive. Both can be said to be meant."""
    file = tmp_path / "backup"
    await back_up(database_url, file)
    with pytest.raises(Conflict, match="--replace"):
        await restore(database_url, file, ANN)
    worker = Register(WORKER, "host", 7, "1", (), 1, 60_000_000, (), ())
    gone = Register(new_id(), "host", 8, "1", (), 1, 60_000_000, (), ())
    for each in (worker, gone):
        await deck.database.write(register, each)
    await deck.database.write(leave, Leave(gone.worker_id))
    run_id = await deck.enqueue()
    for wish in (ANN, Wish("ann", replace=True)):
        with pytest.raises(Conflict, match=r"host:7; stop it, or let --force"):
            await restore(database_url, file, wish)
    with pytest.raises(Conflict, match="--replace"):
        await restore(database_url, file, Wish("ann", force=True))
    assert [row["id"] for row in await deck.rows(runs)] == [run_id]
    done = await restore(database_url, file, Wish("ann", replace=True, force=True))
    assert (done, await deck.rows(runs)) == (Restored(1, 0, 0), [])
    assert [row["id"] for row in await deck.rows(workers)] == [WORKER], "it goes on working here"


async def test_a_restore_that_fails_changes_nothing(
    deck: Deck, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is one transaction: what was there is there."""
    await deck.enqueue_many(3)
    file = tmp_path / "backup"
    await back_up(database_url, file)
    await deck.enqueue_many(3)
    before = await deck.database.read(everything)

    def breaks(*_: object) -> None:
        raise InterruptedError

    monkeypatch.setattr("jobdeck.store.house.restore._count_again", breaks)
    with pytest.raises((InterruptedError, DatabaseError)):
        await restore(database_url, file, Wish("ann", replace=True))
    assert await deck.database.read(everything) == before


async def test_an_older_backup_is_brought_up_to_date(
    database: Database, database_url: str, other_url: str, tmp_path: Path
) -> None:
    """In a copy: the file itself stays what it is."""
    deck = await filled(database)
    file = tmp_path / "backup"
    await back_up(database_url, file)
    with sqlite3.connect(file) as conn:
        for name in ("bulk_steps", "bulk_operations"):
            conn.execute(f"DROP TABLE {name}")
        conn.execute("UPDATE alembic_version SET version_num = '0015'")
    conn.close()
    before = file.read_bytes()
    assert (await restore(other_url, file, ANN)).runs == len(await deck.rows(runs))
    assert file.read_bytes() == before


@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize("spoil", ["missing", "text", "damaged", "foreign", "newer", "in use"])
async def test_what_is_no_backup_is_refused(
    deck: Deck, database_url: str, tmp_path: Path, spoil: str
) -> None:
    """Nothing is dropped for it."""
    run_id = await deck.enqueue(params='{"word":"' + "x" * 9_000 + '"}')
    file = tmp_path / "backup"
    if spoil in ("damaged", "newer"):
        await back_up(database_url, file)
    _spoil(file, spoil, database_url)
    wanted: tuple[type[Exception], str] = {
        "missing": (ValidationError, "cannot be read"),
        "text": (ValidationError, "is no backup"),
        "damaged": (ValidationError, "is damaged"),
        "foreign": (ValidationError, "none of its tables"),
        "newer": (WrongRevision, "newer than this jobdeck"),
        "in use": (ValidationError, "a database in use"),
    }[spoil]
    with pytest.raises(wanted[0], match=wanted[1]):
        await restore(database_url, file, Wish("ann", replace=True))
    assert [row["id"] for row in await deck.rows(runs)] == [run_id]


def _spoil(file: Path, how: str, database_url: str) -> None:
    if how == "text":
        file.write_text("hello")
    elif how == "in use":
        file.write_bytes(Path(database_url.removeprefix("sqlite:///")).read_bytes())
    elif how == "damaged":
        whole = bytearray(file.read_bytes())
        whole[8_192:-4_096] = b"\0" * (len(whole) - 12_288)
        file.write_bytes(whole)
    elif how in ("foreign", "newer"):
        with sqlite3.connect(file) as conn:
            conn.execute(
                "CREATE TABLE other (a)"
                if how == "foreign"
                else "UPDATE alembic_version SET version_num = '9999'"
            )
        conn.close()


async def test_an_epoch_too_many_is_refused(deck: Deck, database_url: str, tmp_path: Path) -> None:
    """Fences have 31 bits: before they would overflow, a restore is refused as a whole."""
    run_id = await deck.enqueue()
    await deck.set_run(run_id, fence=2**31 - EPOCH_STEP)
    file = tmp_path / "backup"
    await back_up(database_url, file)
    with pytest.raises(Conflict, match="fences end here"):
        await restore(database_url, file, Wish("ann", replace=True))
    (row,) = await deck.rows(runs)
    assert row["fence"] == 2**31 - EPOCH_STEP
