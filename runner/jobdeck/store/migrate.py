"""Bring a database to the head revision. The only module that imports Alembic."""

from __future__ import annotations

import warnings
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from jobdeck.store.revision import HEAD, current, wrong_revision

_LOCK_KEY = 0x6A6F6264  # "jobd": serialises two upgrades of one server database


def upgrade(conn: Connection) -> None:
    """Apply what is missing, in the transaction of `conn`. Raises WrongRevision for a schema of a newer jobdeck."""
    if conn.dialect.name == "postgresql":
        conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK_KEY})")
    found = current(conn)
    if found is not None and found > HEAD:
        raise wrong_revision(found)
    config = _config()
    config.attributes["connection"] = conn
    command.upgrade(config, "head")


def head() -> str | None:
    """The newest migration on disk."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def differences_from_models(conn: Connection) -> list[object]:
    """What the tables in the database and the models disagree about; empty where they agree."""
    from alembic.autogenerate import compare_metadata

    from jobdeck.store.schema import metadata

    with warnings.catch_warnings():
        # Neither can read an index of an expression on SQLite.
        warnings.filterwarnings("ignore", message=".*expression-based index")
        return list(compare_metadata(MigrationContext.configure(conn), metadata))


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
