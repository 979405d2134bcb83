"""Acts on many runs: the operations, and the steps of them that are still to be done."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnClause,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    literal_column,
    text,
)

from jobdeck.store.columns import Id, Json
from jobdeck.store.schema.base import flag, metadata, number

bulk_operations = Table(
    "bulk_operations",
    metadata,
    Column("id", Id, primary_key=True),
    Column("team_id", Id, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("filter", Json, nullable=False),
    Column("requested_by", Text, nullable=False),
    flag("own"),
    Column("reason", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    number("total"),
    number("done"),
    number("skipped"),
    number("failed"),
    Column("refused", Json, nullable=False, server_default=text("'{}'")),
    Column("samples", Json, nullable=False, server_default=text("'[]'")),
)
Index(
    "ix_bulk_operations_list", bulk_operations.c.team_id, bulk_operations.c.created_at, bulk_operations.c.id
)
OPEN_BULK: Final[ColumnClause[bool]] = literal_column("finished_at IS NULL")
Index("ix_bulk_operations_open", bulk_operations.c.id, sqlite_where=OPEN_BULK, postgresql_where=OPEN_BULK)

# A step is deleted in the transaction that does it, so none is done twice and none is lost.
bulk_steps = Table(
    "bulk_steps",
    metadata,
    Column("bulk_id", Id, ForeignKey("bulk_operations.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("targets", LargeBinary, nullable=False),
    PrimaryKeyConstraint("bulk_id", "number"),
)
