"""Which schema revision this jobdeck works with. Kept apart from Alembic, which takes long to import."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, inspect, text

from jobdeck.errors import WrongRevision

HEAD: Final = "0016"
"""The newest migration; a test holds it equal to Alembic's."""


def current(conn: Connection) -> str | None:
    """The revision of the database; None where it is empty."""
    if not inspect(conn).has_table("alembic_version"):
        return None
    found: str | None = conn.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def wrong_revision(found: str | None) -> WrongRevision:
    """The error for a schema that is not `HEAD`, with what mends it."""
    if found is not None and found > HEAD:
        return WrongRevision(
            f"the database has schema {found}, newer than this jobdeck ({HEAD}); install the newer jobdeck"
        )
    state = "has no schema yet" if found is None else f"has schema {found}"
    return WrongRevision(f"the database {state}, this jobdeck needs {HEAD}; run: jobdeck db upgrade")
