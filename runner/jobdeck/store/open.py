"""From a URL to a database: which of the two, and whether its schema is the one this jobdeck works with."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from jobdeck.errors import ConfigError
from jobdeck.store.database import Database
from jobdeck.store.failures import translated
from jobdeck.store.revision import HEAD, current, wrong_revision


@dataclass(frozen=True, slots=True)
class Revision:
    """The schema revision of a database and the one this jobdeck works with."""

    current: str | None
    head: str

    @property
    def ok(self) -> bool:
        return self.current == self.head


def database_of(
    url: str, *, pool_size: int = 5, busy_timeout: float = 5.0, command_timeout: float = 10.0
) -> Database:
    """The database behind a SQLAlchemy URL, not yet open. Raises ConfigError for one that jobdeck cannot use."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError(
            "database_url is not a URL; write sqlite:///file.db or postgresql://user@host/name"
        ) from None
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise ConfigError("a SQLite database needs a file: sqlite:///file.db")
        from jobdeck.store.sqlite.database import SqliteDatabase

        return SqliteDatabase(Path(parsed.database).expanduser().absolute(), busy_timeout=busy_timeout)
    if backend == "postgresql":
        return _postgres(url, pool_size, command_timeout)
    raise ConfigError(f"jobdeck works on SQLite and PostgreSQL, not on {backend}")


def _postgres(url: str, pool_size: int, command_timeout: float) -> Database:
    _require_asyncpg()
    from jobdeck.store.postgres.database import PostgresDatabase

    parsed = make_url(url).set(drivername="postgresql+asyncpg")
    return PostgresDatabase(parsed, pool_size=pool_size, command_timeout=command_timeout)


def _require_asyncpg() -> None:
    try:
        import asyncpg  # noqa: F401  only to say what is missing
    except ImportError:
        raise ConfigError('PostgreSQL needs the extra "postgres": pip install "jobdeck[postgres]"') from None


async def revision_of(database: Database) -> Revision:
    """Read the revision of an open database."""
    return Revision(await database.read(current), HEAD)


async def require_head(database: Database) -> None:
    """Raise WrongRevision, with the command that mends it, unless the schema is the one of this jobdeck."""
    found = await revision_of(database)
    if not found.ok:
        raise wrong_revision(found.current)


async def upgrade(url: str) -> None:
    """Bring the schema to this jobdeck's revision, in one transaction. Safe to run twice and by two at once.

    Raises DatabaseUnavailable, and WrongRevision where the schema is newer than this jobdeck.
    """
    parsed = make_url(url)
    with translated():
        if parsed.get_backend_name() == "sqlite":
            await asyncio.to_thread(upgrade_file, Path(parsed.database or ""))
        else:
            await _upgrade_server(parsed)


async def _upgrade_server(url: URL) -> None:
    _require_asyncpg()
    from sqlalchemy.pool import NullPool

    from jobdeck.store import migrate
    from jobdeck.store.postgres.database import postgres_engine
    from jobdeck.store.postgres.pooler import is_pooled

    pooled = await is_pooled(url, timeout=10.0)
    async with postgres_engine(url, pooled=pooled, poolclass=NullPool).begin() as conn:
        await conn.run_sync(migrate.upgrade)


def upgrade_file(path: Path) -> None:
    """Bring a SQLite file to this jobdeck's revision; it is made where it is missing."""
    from jobdeck.store import migrate
    from jobdeck.store.sqlite.engines import prepare_file, writer_engine

    path = path.expanduser().absolute()
    prepare_file(path)
    with writer_engine(path, busy_timeout=30.0).begin() as conn:
        migrate.upgrade(conn)
