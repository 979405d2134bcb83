"""What all tables are made of."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BigInteger, Boolean, Column, ColumnElement, Integer, MetaData, Text, TextClause, text

from jobdeck.states import Status
from jobdeck.store.columns import Json

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

STATUSES: Final = ", ".join(f"'{status.value}'" for status in Status)
ACTIVE: Final = "status IN ('awaiting_approval', 'pending', 'running')"
ROW_ID: Final = BigInteger().with_variant(Integer(), "sqlite")


def number(name: str, default: int = 0) -> Column[Any]:
    """A whole number that is never NULL."""
    return Column(name, Integer, nullable=False, server_default=text(str(default)))


def flag(name: str) -> Column[Any]:
    """False, until somebody says otherwise."""
    return Column(name, Boolean, nullable=False, server_default=text("false"))


def names(name: str) -> Column[Any]:
    """A list of names as JSON."""
    return Column(name, Json, nullable=False, server_default=text("'[]'"))


def progress() -> list[Column[Any]]:
    """How far a run has come; counts of records."""
    return [
        Column("processed", BigInteger, nullable=False, server_default=text("0")),
        Column("total", BigInteger),
        Column("failed", BigInteger, nullable=False, server_default=text("0")),
        Column("skipped", BigInteger, nullable=False, server_default=text("0")),
        Column("message", Text, nullable=False, server_default=text("''")),
    ]


def only(condition: ColumnElement[Any] | TextClause) -> dict[str, Any]:
    """Options of an index of some rows only, on either database."""
    return {"sqlite_where": condition, "postgresql_where": condition}
