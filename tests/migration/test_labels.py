"""Revision 0002 on a database that is in use: workers and job types of before have no labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Connection, create_engine, text

from jobdeck.store import migrate
from jobdeck.store.fleet import find_type, list_workers
from jobdeck.store.open import require_head, upgrade
from tests.databases import opened
from tests.postgres import PostgresServer, create_database, drop_database

OLD = (
    "INSERT INTO job_types (name, title, category, scope, schema, defaults, package, version, description, updated_at)"
    " VALUES ('sync', 'Sync', 'sync', 'project', '{}', '{}', 'acme', '1.0', '', 1)",
    "INSERT INTO workers (id, host, pid, version, queues, job_types, slots, state, started_at, seen_at, alive_until)"
    " VALUES (ID, 'host', 4711, '0.1.0', '[]', '[\"sync\"]', 10, 'live', 1, 1, 9)",
)


@pytest.fixture
def old_url(database_kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database as version 0001 left it, with a worker and a job type."""
    if database_kind == "sqlite":
        url = f"sqlite:///{tmp_path / 'old.db'}"
        _fill(url, "x'0123456789abcdef0123456789abcdef'")
        yield url
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = create_database(server)
    _fill(url.replace("postgresql://", "postgresql+psycopg://"), "'01234567-89ab-cdef-0123-456789abcdef'")
    yield url
    drop_database(server, url)


def _fill(url: str, worker_id: str) -> None:
    engine = create_engine(url)
    with engine.begin() as conn:
        _to_0001(conn)
        for statement in OLD:
            conn.execute(text(statement.replace("ID", worker_id).replace(":", r"\:")))
    engine.dispose()


def _to_0001(conn: Connection) -> None:
    config = migrate._config()
    config.attributes["connection"] = conn
    command.upgrade(config, "0001")


async def test_what_was_there_stays_and_has_no_labels(old_url: str) -> None:
    """Rows written before are read as without labels, and the upgraded schema is that of the models."""
    await upgrade(old_url)
    async with opened(old_url) as database:
        await require_head(database)
        assert await database.read(migrate.differences_from_models) == []
        (worker,) = await database.read(list_workers, 5)
        kind = await database.read(find_type, "sync")
    assert (worker.label, worker.job_types, worker.labels) == ("host:4711", ("sync",), ())
    assert kind is not None
    assert (kind.name, kind.labels) == ("sync", ())
