"""Revision 0012 on a database that is in use: runs that were asked to send mail are told of, others are not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import create_engine, inspect, select, text

from jobdeck.store import migrate
from jobdeck.store.open import upgrade
from jobdeck.store.schema import runs
from tests.databases import opened
from tests.postgres import PostgresServer, create_database, drop_database

RUN = (
    "INSERT INTO runs (id, team_id, status, queue, job_type, priority, due_at, created_at, name, category,"
    " trigger_type, triggered_by, params, notify) VALUES ({id}, {id}, '{status}', 'default', 'sync', 5, 1, 1,"
    " '{status}', 'sync', 'immediate', 'manual:ann', '{{}}', {notify})"
)
OLD = (("pending", "true"), ("running", "true"), ("completed", "true"), ("awaiting_approval", "false"))


@pytest.fixture
def old_url(database_kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database as version 0009 left it, with some runs."""
    if database_kind == "sqlite":
        url = f"sqlite:///{tmp_path / 'old.db'}"
        _fill(url, "x'{0:032x}'")
        yield url
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = create_database(server)
    _fill(url.replace("postgresql://", "postgresql+psycopg://"), "lpad('{0}', 32, '0')::uuid")
    yield url
    drop_database(server, url)


def _fill(url: str, id_form: str) -> None:
    engine = create_engine(url)
    with engine.begin() as conn:
        config = migrate._config()
        config.attributes["connection"] = conn
        command.upgrade(config, "0009")
        for number, (status, notify) in enumerate(OLD, 1):
            values = {"id": id_form.format(number), "status": status, "notify": notify}
            conn.execute(text(RUN.format(**values).replace(":", r"\:")))
    engine.dispose()


@pytest.mark.filterwarnings("ignore:.*expression-based index")
async def test_runs_that_were_asked_for_before(old_url: str) -> None:
    """Those that have not ended tell, if they were to; every index of runs is there as before."""
    await upgrade(old_url)
    async with opened(old_url) as database:
        found = await database.read(lambda conn: conn.execute(select(runs.c.name, runs.c.announces)).all())
        names = await database.read(lambda conn: {each["name"] for each in inspect(conn).get_indexes("runs")})
    assert dict(tuple(row) for row in found) == {
        "pending": True,
        "running": True,
        "completed": False,
        "awaiting_approval": False,
    }
    # The reflection of SQLite does not tell of indexes of expressions.
    assert {str(index.name) for index in runs.indexes} - names <= {"ix_runs_tail"}
