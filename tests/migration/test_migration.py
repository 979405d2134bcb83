"""Migrations: they lead to the tables that the code declares, once, whoever comes first; anything else is refused."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import alembic.op
import pytest
from sqlalchemy import Connection, create_engine, inspect, make_url, text

from jobdeck.errors import WrongRevision
from jobdeck.store import migrate
from jobdeck.store.database import Database
from jobdeck.store.open import Revision, require_head, revision_of, upgrade
from jobdeck.store.revision import HEAD
from jobdeck.store.schema import metadata
from jobdeck.store.scopes import list_teams
from jobdeck.store.transaction import Rank, Tx, verb
from tests.databases import opened
from tests.postgres import PostgresServer, create_database, drop_database
from tests.store.deck import team_of

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.filterwarnings("ignore:.*expression-based index")


@pytest.fixture
def empty_url(database_kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database with nothing in it; on SQLite not even a file."""
    if database_kind == "sqlite":
        yield f"sqlite:///{tmp_path / 'new.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = create_database(server)
    yield url
    drop_database(server, url)


@verb(Rank.CHANGE)
def run_sql(tx: Tx, items: Sequence[str]) -> Sequence[None]:
    """Statements that no verb of today makes."""
    for item in items:
        tx.conn.execute(text(item))
    return [None] * len(items)


def create_all(url: str) -> None:
    """The tables straight from the models."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    engine = create_engine(parsed)
    metadata.create_all(engine)
    engine.dispose()


async def set_revision(database: Database, revision: str) -> None:
    await database.write(run_sql, f"UPDATE alembic_version SET version_num = '{revision}'")


def test_the_constant_is_the_newest_migration() -> None:
    """The revision that jobdeck compares with, without importing Alembic, is Alembic's own."""
    assert migrate.head() == HEAD


async def test_the_migrated_schema_is_that_of_the_models(database: Database) -> None:
    """Alembic finds no difference between the database and the declared tables."""
    assert await database.read(migrate.differences_from_models) == []


def facts(conn: Connection) -> dict[str, Any]:
    """Everything the database says about its tables that Alembic does not compare, checks and defaults included."""
    found: dict[str, Any] = {}
    looker = inspect(conn)
    for name in sorted(set(looker.get_table_names()) - {"alembic_version"}):
        found[name] = {
            "columns": _columns(conn, name),
            "checks": sorted(looker.get_check_constraints(name), key=str),
            "uniques": sorted(looker.get_unique_constraints(name), key=str),
            "foreign": sorted(looker.get_foreign_keys(name), key=str),
            "primary": looker.get_pk_constraint(name),
            "indexes": _indexes(conn, name),
            "options": looker.get_table_options(name),
        }
    return found


def _columns(conn: Connection, table: str) -> list[Any]:
    found = [{**each, "type": str(each["type"])} for each in inspect(conn).get_columns(table)]
    # PostgreSQL can only add a column at the end, and reaches all of them alike.
    return sorted(found, key=str) if conn.dialect.name == "postgresql" else found


def _indexes(conn: Connection, table: str) -> list[Any]:
    if conn.dialect.name != "sqlite":
        return sorted(map(_plain, inspect(conn).get_indexes(table)), key=str)
    # In the words of the file: SQLAlchemy reads no index of an expression there.
    words = text(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = :table ORDER BY name"
    )
    return [tuple(row) for row in conn.execute(words, {"table": table})]


def _plain(index: Any) -> dict[str, Any]:
    options = {key: str(value) for key, value in index.pop("dialect_options", {}).items()}
    return {**index, "options": options}


async def test_migrating_is_the_same_as_creating(database: Database, empty_url: str) -> None:
    """Columns, types, defaults, checks, keys, indexes and their conditions are those of tables made from the models."""
    create_all(empty_url)
    async with opened(empty_url) as created:
        wanted = await created.read(facts)
    found = await database.read(facts)
    assert set(found) == set(metadata.tables) == set(wanted)
    for name in found:
        assert found[name] == wanted[name], name


async def test_upgrading_twice_changes_nothing(database_url: str) -> None:
    """A database that is at the newest revision, and what is in it, stays as it is."""
    async with opened(database_url) as database:
        await team_of(database, "acme")
        before = await database.read(facts)
        await upgrade(database_url)
        assert await database.read(facts) == before
        assert [team.slug for team in await database.read(list_teams)] == ["acme"]
        assert await revision_of(database) == Revision(HEAD, HEAD)
        await require_head(database)


async def test_an_empty_database_is_refused(empty_url: str) -> None:
    """A database without tables is a wrong revision, and the error names the command that mends it."""
    async with opened(empty_url) as database:
        assert await revision_of(database) == Revision(None, HEAD)
        with pytest.raises(WrongRevision, match=r"no schema yet.*run: jobdeck db upgrade") as caught:
            await require_head(database)
        assert caught.value.exit_code == 7


async def test_another_revision_is_refused(database: Database) -> None:
    """An older schema asks for the upgrade, a newer one for the newer jobdeck."""
    for revision, words in (
        ("0000", f"has schema 0000, this jobdeck needs {HEAD}; run: jobdeck db upgrade"),
        ("9999", "has schema 9999, newer than this jobdeck"),
    ):
        await set_revision(database, revision)
        with pytest.raises(WrongRevision, match=words):
            await require_head(database)


async def test_a_newer_schema_is_not_touched_by_an_upgrade(database: Database, database_url: str) -> None:
    """Upgrading with an older jobdeck says what to install, and changes nothing."""
    await set_revision(database, "9999")
    before = await database.read(facts)
    with pytest.raises(WrongRevision, match="install the newer jobdeck"):
        await upgrade(database_url)
    assert await database.read(facts) == before
    assert (await revision_of(database)).current == "9999"


async def test_an_upgrade_that_breaks_leaves_nothing(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All migrations are one transaction: where one fails half way, no table is left, and the next try works."""
    with monkeypatch.context() as patched:
        patched.setattr(alembic.op, "create_index", _broken)
        with pytest.raises(ZeroDivisionError):
            await upgrade(empty_url)
    async with opened(empty_url) as database:
        assert await database.read(facts) == {}
    await upgrade(empty_url)
    async with opened(empty_url) as database:
        await require_head(database)


def _broken(*_args: object, **_options: object) -> None:
    raise ZeroDivisionError("a bug in a migration")


async def test_six_processes_start_on_a_new_database(empty_url: str) -> None:
    """All of them bring it up at the same moment, and all of them can work with it afterwards."""
    command = [sys.executable, "-m", "tests.migration.starter", empty_url, "6"]
    done = await asyncio.to_thread(
        subprocess.run, command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=90
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    async with opened(empty_url) as database:
        assert await database.read(migrate.differences_from_models) == []
