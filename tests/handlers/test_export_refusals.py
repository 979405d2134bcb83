"""`export`: only what reads is carried out, and never on jobdeck's own database."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import make_url

from jobdeck import Discard, Retry
from jobdeck_handlers.export import sqlite
from jobdeck_handlers.export.failures import is_busy
from jobdeck_handlers.export.postgres import open_postgres
from jobdeck_handlers.export.rows import Query
from tests.handlers.databases import Database
from tests.handlers.exporting import Exports
from tests.pooler import pooled

ON_POSTGRES = pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
ON_SQLITE = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)

ANYWHERE = [
    "INSERT INTO t VALUES (2)",
    "INSERT INTO t VALUES (2) RETURNING n",
    "DELETE FROM t RETURNING n",
    "UPDATE t SET n = 2 RETURNING n",
    "WITH d AS (SELECT 1 AS n) DELETE FROM t WHERE n IN (SELECT n FROM d) RETURNING n",
    "DROP TABLE t",
    "CREATE TABLE u AS SELECT 1 AS n",
    "SELECT 1; DELETE FROM t",
    "SELECT 1) AS q; DELETE FROM t; SELECT * FROM (SELECT 1",
    "BEGIN",
    "COMMIT",
    "VACUUM",
    "EXPLAIN SELECT 1",
    "nonsense",
]
SQLITE = [
    "PRAGMA query_only = OFF",
    "PRAGMA journal_mode",
    "PRAGMA wal_checkpoint(TRUNCATE)",
    "SELECT * FROM pragma_table_info('t')",
    "ATTACH 'other.db' AS other",
    "VACUUM INTO 'copy.db'",
    "SELECT load_extension('x')",
    "SELECT writefile('x', 'y')",
    "REPLACE INTO t VALUES (1)",
    "UPDATE sqlite_master SET sql = '' RETURNING name",
    "CREATE TEMP TABLE u (n)",
]
POSTGRES = [
    "COPY t TO PROGRAM 'touch /tmp/pwned'",
    "COPY (SELECT 1) TO '/tmp/pwned'",
    "COPY t TO STDOUT",
    "SELECT lo_export(1, '/tmp/pwned')",
    "SELECT lo_from_bytea(0, 'x')",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT nextval('s')",
    "SELECT setval('s', 5)",
    "SELECT * FROM t FOR UPDATE",
    "WITH d AS (DELETE FROM t RETURNING n) SELECT * FROM d",
    "SELECT remove_all()",
    "SELECT set_config('transaction_read_only', 'off', true)",
    "SELECT set_config('role', 'postgres', true)",
    "SET TRANSACTION READ WRITE",
    "SHOW data_directory",
    "DO $$ BEGIN DELETE FROM t; END $$",
    "CALL nothing()",
    "LISTEN x",
    "SELECT 1 INTO u",
    "SELECT query_to_xml('DELETE FROM t RETURNING n', true, false, '')",
]


@pytest.fixture(autouse=True)
def table(database: Database) -> None:
    """A table with one row, and on PostgreSQL what could change it, all of it the reader's own."""
    database.execute("CREATE TABLE t (n INTEGER)")
    database.execute("INSERT INTO t VALUES (1)")
    if database.kind == "postgresql":
        database.execute("CREATE SEQUENCE s")
        database.execute(
            "CREATE FUNCTION remove_all() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'DELETE FROM t'"
        )
        # The role could do it: what refuses it is the transaction.
        database.execute("GRANT ALL ON t, s TO PUBLIC")


def written_by_the_server() -> bool:
    return Path("/tmp/pwned").exists()


async def refused(exports: Exports, database: Database, query: str) -> None:
    with pytest.raises(Discard):
        await exports.run(query)
    assert exports.names == []
    assert database.column("SELECT n FROM t") == [1]
    assert database.tables() == {"t"}


@pytest.mark.parametrize("query", ANYWHERE)
async def test_what_is_not_one_query(exports: Exports, database: Database, query: str) -> None:
    """Anything but one SELECT ends the run as failed, and changes nothing."""
    await refused(exports, database, query)


@ON_SQLITE
@pytest.mark.parametrize("query", SQLITE)
async def test_what_is_more_than_a_query_on_sqlite(
    exports: Exports, database: Database, query: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pragmas, other files and functions with effects are refused too."""
    monkeypatch.chdir(tmp_path)
    await refused(exports, database, query)
    assert set(os.listdir(tmp_path)) <= {"target.db", "exports"}  # noqa: PTH208


@ON_POSTGRES
@pytest.mark.parametrize("query", POSTGRES)
async def test_what_is_more_than_a_query_on_postgresql(
    exports: Exports, database: Database, query: str
) -> None:
    """Neither syntax nor a function gets around the transaction that reads, or to the server's files."""
    await refused(exports, database, query)
    assert database.column("SELECT last_value FROM s") == [1]
    assert not written_by_the_server()


@ON_SQLITE
async def test_the_connection_itself_refuses(exports: Exports, tmp_path: Path) -> None:
    """Were a statement to get past the first look, the connection would still not write."""
    path = tmp_path / "target.db"
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)) as connection:
        connection.set_authorizer(sqlite._authorize)
        for statement in ("DELETE FROM t", "PRAGMA query_only = OFF", "ATTACH 'x' AS x", "BEGIN"):
            with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
                connection.execute(statement)
        with pytest.raises(sqlite3.OperationalError, match="sqlite_master may not be modified"):
            connection.execute("UPDATE sqlite_master SET sql = ''")
        connection.set_authorizer(None)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM t")


@ON_SQLITE
async def test_queries_that_need_more_than_a_table(exports: Exports, database: Database) -> None:
    """What reads is let through: recursion, JSON, windows, views, full-text search."""
    database.execute("CREATE VIEW v AS SELECT n, row_number() OVER (ORDER BY n) AS at FROM t")
    database.execute("CREATE VIRTUAL TABLE f USING fts5(body)")
    database.execute("INSERT INTO f VALUES ('hello world')")
    database.execute("CREATE VIRTUAL TABLE g USING fts4(body)")
    database.execute("INSERT INTO g VALUES ('hello again')")
    database.execute("CREATE VIRTUAL TABLE r USING rtree(id, low, high)")
    database.execute("INSERT INTO r VALUES (1, 2, 3)")
    query = """
        WITH RECURSIVE q(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM q WHERE i < 3)
        SELECT i, at, f.body, value, low FROM q, v, f('hello'), g, json_each('[7]'), r
        WHERE g.body MATCH 'again' AND low > 1 ORDER BY i DESC
    """
    assert [row["i"] for row in await exports.json(query)] == [3, 2, 1]


@ON_POSTGRES
async def test_a_role_that_may_do_more_is_not_let_in(exports: Exports, database: Database) -> None:
    """A superuser can write files from within a query that only reads, so its URL is refused, with the way out."""
    if database.column("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") != [True]:
        pytest.skip("the server's role is no superuser")
    with pytest.raises(Discard, match="GRANT pg_read_all_data TO exporter"):
        await exports.run(
            "SELECT 1", exports.attempt(settings=exports.settings | {"data_file_url": database.url})
        )
    role = f"writer_{uuid4().hex}"
    database.execute(f"CREATE ROLE {role} LOGIN")
    database.execute(f"GRANT pg_execute_server_program TO {role}")
    url = make_url(database.url).set(username=role).render_as_string(hide_password=False)
    try:
        with pytest.raises(Discard, match="start programs"):
            await exports.run("SELECT 1", exports.attempt(settings=exports.settings | {"data_file_url": url}))
    finally:
        database.execute(f"DROP ROLE {role}")


@ON_POSTGRES
async def test_all_looks_see_the_same_data(exports: Exports, database: Database) -> None:
    """Rows that come while an export counts and reads are not in it."""
    url = make_url(exports.url).set(drivername="postgresql+asyncpg")
    query = Query("SELECT n FROM t", {}, timedelta(minutes=1))
    async with open_postgres(url, query) as rows:
        assert await rows.count() == 1
        database.execute("INSERT INTO t VALUES (2)")
        assert await rows.count() == 1
        await rows.start()
        assert [tuple(row) for row in await rows.fetch(10)] == [(1,)]


async def test_a_database_of_jobdeck_is_refused(exports: Exports, database: Database) -> None:
    """Under whatever name it is reached, and in whatever schema its tables are."""
    schema = "" if exports.is_sqlite else "hidden."
    if schema:
        database.execute("CREATE SCHEMA hidden")
    for name in ("runs", "leases", "job_types"):
        database.execute(f"CREATE TABLE {schema}{name} (id INTEGER)")
    with pytest.raises(Discard, match="jobdeck's own database is never a target"):
        await exports.run("SELECT 1")
    assert exports.names == []


async def test_its_own_url_is_refused(exports: Exports) -> None:
    """Before anything is opened."""
    settings = exports.settings | {"own_database_url": exports.url}
    with pytest.raises(Discard, match="own database"):
        await exports.run("SELECT 1", exports.attempt(settings=settings))


async def test_targets_by_name_and_by_url(exports: Exports) -> None:
    """As those of a sync: names of the configuration, and URLs only where they are free."""
    named = exports.attempt(
        settings=exports.settings | {"data_file_url": "", "targets": {"lake": exports.url}}
    )
    assert (await exports.run("SELECT n FROM t", named, target="lake"))["rows"] == 1
    with pytest.raises(Discard, match="not a URL"):
        await exports.run("SELECT n FROM t", target="sqlite:////srv/x.db", file="other")


@ON_SQLITE
async def test_a_file_that_stays_locked(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program that does not let go costs an attempt, not the run."""
    monkeypatch.setattr(sqlite, "_BUSY", 0.2)
    with closing(sqlite3.connect(tmp_path / "target.db", isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Retry, match="locked"):
            await exports.run("SELECT 1")


@ON_SQLITE
async def test_a_file_that_is_locked_for_a_moment(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for."""
    with closing(sqlite3.connect(tmp_path / "target.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")

        def let_go(error: sqlite3.Error) -> bool:
            assert is_busy(error)
            other.execute("COMMIT")
            return True

        monkeypatch.setattr(sqlite, "is_busy", let_go)
        assert (await exports.run("SELECT n FROM t"))["rows"] == 1
        assert not other.in_transaction


@ON_POSTGRES
async def test_behind_a_pooler(exports: Exports, database: Database) -> None:
    """One that gives each transaction another backend, and refuses settings at connect, is no hindrance."""
    url = make_url(exports.url)
    with pooled(database.url) as pooler:
        through = make_url(pooler.url).set(username=url.username, password=url.password)
        settings = exports.settings | {"data_file_url": through.render_as_string(hide_password=False)}
        for at in range(4):
            ctx = exports.attempt(settings=settings)
            result = await exports.run("SELECT n FROM t WHERE n = :n", ctx, bind={"n": 1}, file=str(at))
            assert result["rows"] == 1


@ON_SQLITE
async def test_a_file_that_is_no_database(exports: Exports, tmp_path: Path) -> None:
    """It ends the run, and a missing one is not made."""
    (tmp_path / "text.db").write_bytes(b"this is no database, but it is long enough" * 100)
    for name, problem in (("text.db", "not a database"), ("none.db", "no such SQLite file")):
        settings = exports.settings | {"data_file_url": f"sqlite:///{tmp_path / name}"}
        with pytest.raises(Discard, match=problem):
            await exports.run("SELECT 1", exports.attempt(settings=settings))
    assert not (tmp_path / "none.db").exists()
