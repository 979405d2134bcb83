"""`http_sync`: which databases may be a target, and how an error of the target ends a run."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

from jobdeck import Discard, GuardedClient, Retry
from jobdeck.secret.vault import ConfiguredUrls, Vault
from jobdeck_handlers.databases import target as targets
from jobdeck_handlers.databases.destination import destination
from jobdeck_handlers.http_sync import http_sync
from tests.handlers.api import Api
from tests.handlers.conftest import MakeContext
from tests.handlers.context import OTHER_RUN, RUN, RecordingContext
from tests.handlers.databases import Database
from tests.handlers.syncing import counts, sync, users

OWN_PG = "postgresql+asyncpg://me@db.example.com/jobdeck"


@pytest.mark.parametrize("by_name", [True, False])
async def test_a_target_by_name_or_by_url(
    by_name: bool, api: Api, attempt: MakeContext, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run may name a target of the configuration or, where that is allowed, give a URL or a secret with one."""
    api.records = users(3)
    monkeypatch.setenv("JOBDECK_SECRET_DB", database.url)
    settings = {"targets": {"warehouse": "secret://DB"}} if by_name else {"free_targets": True}
    for at, target in enumerate(["warehouse"] if by_name else [database.url, "secret://DB"]):
        ctx = attempt(settings=settings, run_id=(RUN, OTHER_RUN)[at])
        assert sum(counts(await sync(ctx, api.url("/everything"), target=target))) == 3
    assert database.count("users") == 3


@pytest.mark.parametrize("by_name", [True, False])
def test_the_password_of_a_target_may_be_a_secret(by_name: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The URL is stored with the reference in the place of the password, and gets the value where it is used."""
    monkeypatch.setenv("JOBDECK_SECRET_PW", "p@ss/word")
    url = "postgresql://sync:secret://PW@db.example.com/warehouse"
    raw = {"url": "https://api.example.com/", "table": "users", "key": ["id"], "target": url}
    assert http_sync.parse(raw).model_dump(mode="json")["target"] == url
    settings = {"targets": {"warehouse": url}} if by_name else {"free_targets": True}
    found = destination("warehouse" if by_name else url, settings)
    assert (found.username, found.password, found.host, found.database) == (
        "sync",
        "p@ss/word",
        "db.example.com",
        "warehouse",
    )
    with pytest.raises(Discard, match="JOBDECK_SECRET_NONE is not set"):
        destination(url.replace("PW", "NONE"), {"free_targets": True})


async def test_targets_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a worker hands them over: looked up when asked for; one that is missing disturbs no other."""
    monkeypatch.setenv("JOBDECK_SECRET_DB", "sqlite:////srv/lake.db")
    urls = ConfiguredUrls({"lake": "secret://DB", "sea": "secret://NONE"}, Vault().for_configuration("crew"))
    assert destination("lake", {"targets": urls}).database == "/srv/lake.db"
    with pytest.raises(Discard, match="JOBDECK_SECRET_NONE is not set"):
        destination("sea", {"targets": urls})
    with pytest.raises(Discard, match=r"\[targets\].* names lake, sea"):
        destination("river", {"targets": urls})


@pytest.mark.parametrize(
    ("target", "settings", "problem"),
    [
        (None, {}, "no data file"),
        ("warehouse", {"targets": {"lake": "x"}}, r"\[targets\].* names lake"),
        ("postgresql://me@host/db", {}, "one of the names under"),
        ("sqlite:////tmp/x.db", {"free_targets": False}, "one of the names under"),
        ("mysql://host/db", {"free_targets": True}, "is not postgresql"),
        ("postgresql://host", {"free_targets": True}, "names no database"),
        ("sqlite://", {"free_targets": True}, "names no database"),
        ("sqlite:///:memory:", {"free_targets": True}, "names no database"),
        ("sqlite:///file:x.db?uri=true", {"free_targets": True}, "names no database"),
        ("sqlite:////tmp/x.db?mode=rw", {"free_targets": True}, "names no database"),
        (
            "postgres://me@DB.example.com:5432/jobdeck",
            {"free_targets": True, "own_database_url": OWN_PG},
            "own",
        ),
        (
            "sqlite:////srv/./own.db",
            {"free_targets": True, "own_database_url": "sqlite:////srv/own.db"},
            "own",
        ),
        (
            "sqlite:////srv/own.db-wal",
            {"free_targets": True, "own_database_url": "sqlite:////srv/own.db"},
            "own",
        ),
    ],
)
def test_targets_that_may_not_be_used(target: str | None, settings: dict[str, Any], problem: str) -> None:
    """Each is refused with the reason, before anything is opened."""
    with pytest.raises(Discard, match=problem):
        destination(target, settings)


def test_other_databases_beside_the_own_may_be_used() -> None:
    """The refusal is for jobdeck's own database alone."""
    settings = {"free_targets": True, "own_database_url": OWN_PG}
    assert destination("postgresql://me@db.example.com/other", settings).drivername == "postgresql+asyncpg"
    assert destination("sqlite:////srv/x.db", settings).drivername == "sqlite+aiosqlite"


def test_links_to_the_own_file_are_seen_through(tmp_path: Path) -> None:
    """Neither a symbolic nor a hard link makes the own database another one."""
    own = tmp_path / "own.db"
    own.touch()
    (tmp_path / "soft.db").symlink_to(own)
    os.link(own, tmp_path / "hard.db")
    for name in ("soft.db", "hard.db", "own.db"):
        with pytest.raises(Discard, match="own"):
            destination(
                f"sqlite:///{tmp_path / name}", {"free_targets": True, "own_database_url": f"sqlite:///{own}"}
            )


async def test_a_database_with_the_tables_of_jobdeck_is_refused(
    api: Api, attempt: MakeContext, database: Database
) -> None:
    """Under whatever name it is reached, what looks like jobdeck's database is left alone."""
    for table in ("runs", "leases", "job_types"):
        database.execute(f"CREATE TABLE {table} (id INTEGER)")
    with pytest.raises(Discard, match="own database"):
        await sync(attempt(), api.url("/everything"))
    assert database.tables() == {"runs", "leases", "job_types"}
    assert api.asked == []


async def test_the_file_is_private(api: Api, client: GuardedClient, tmp_path: Path) -> None:
    """A data file that jobdeck makes can be read by its owner alone, whatever the umask; one in WAL mode."""
    api.records = users(1)
    path = tmp_path / "made.db"
    umask = os.umask(0)
    try:
        await sync(RecordingContext(client, {"data_file_url": f"sqlite:///{path}"}), api.url("/everything"))
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with sqlite3.connect(path) as conn:
        assert conn.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    conn.close()


async def test_a_file_that_cannot_be_a_target(api: Api, client: GuardedClient, tmp_path: Path) -> None:
    """A missing folder and a file that is no database end the run with the reason."""
    for name, content in (
        ("none/x.db", None),
        ("text.db", b"this is no database, but it is long enough" * 100),
    ):
        if content:
            (tmp_path / name).write_bytes(content)
        ctx = RecordingContext(client, {"data_file_url": f"sqlite:///{tmp_path / name}"})
        with pytest.raises(Discard, match=r"No such file|not a database"):
            await sync(ctx, api.url("/everything"))


async def test_a_target_that_is_locked_is_tried_again(
    api: Api, client: GuardedClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another writer that does not let go costs an attempt, not the run."""
    monkeypatch.setattr(targets, "_BUSY_SECONDS", 0.05)
    path = tmp_path / "busy.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA journal_mode=WAL")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Retry, match="locked"):
        await sync(RecordingContext(client, {"data_file_url": f"sqlite:///{path}"}), api.url("/everything"))
    other.close()


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
async def test_errors_of_a_server(api: Api, attempt: MakeContext, database: Database) -> None:
    """A server that is not there may come back; a database or right that is not there will not, without people."""
    settings: dict[str, Any] = {"data_file_url": "postgresql://me@127.0.0.1:9/db"}
    with pytest.raises(Retry, match="target database"):
        await sync(attempt(settings=settings), api.url("/everything"))
    url = database.url.replace("/jobdeck_", "/no_such_")
    with pytest.raises(Discard, match="does not exist"):
        await sync(attempt(settings={"data_file_url": url}), api.url("/everything"))
    database.execute("CREATE VIEW users AS SELECT 1::bigint AS id, 2::bigint AS n")
    api.records = users(1)
    with pytest.raises(Discard, match="cannot be performed"):
        await sync(attempt(), api.url("/everything"))


async def test_a_column_that_people_use_is_not_widened_behind_their_back(
    api: Api, attempt: MakeContext, database: Database
) -> None:
    """Where the database refuses to widen a column, the run ends with its reason and the table is as before."""
    database.execute("CREATE TABLE users (id BIGINT, name BIGINT)")
    database.execute("INSERT INTO users VALUES (1, 7)")
    database.execute("CREATE VIEW names AS SELECT name FROM users")
    if database.kind == "sqlite":
        database.execute("CREATE INDEX by_name ON users (name)")
    api.records = users(3)
    with pytest.raises(Discard, match=r"view|index"):
        await sync(attempt(), api.url("/everything"))
    assert database.rows("SELECT * FROM users") == [{"id": 1, "name": 7}]


BROKEN = {
    "sqlite": ["CREATE TRIGGER broken BEFORE INSERT ON users BEGIN DELETE FROM nowhere; END"],
    "postgresql": [
        "CREATE FUNCTION out_of_space() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'no space' USING ERRCODE = 'disk_full'; END $$",
        "CREATE TRIGGER broken BEFORE INSERT ON users EXECUTE FUNCTION out_of_space()",
    ],
}


async def test_a_broken_target_is_no_fault_of_the_records(
    api: Api, attempt: MakeContext, database: Database
) -> None:
    """What every record would meet ends the attempt, instead of counting each of them as failed."""
    database.execute("CREATE TABLE users (id BIGINT, name TEXT)")
    for statement in BROKEN[database.kind]:
        database.execute(statement)
    api.records = users(3)
    with pytest.raises((Retry, Discard), match=r"no space|no such table") as caught:
        await sync(attempt(), api.url("/everything"))
    assert isinstance(caught.value, Retry if database.kind == "postgresql" else Discard)
    assert database.column("SELECT seq FROM _jobdeck_sync") == [0]
