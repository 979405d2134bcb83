"""What people did, and the seals on it. Triggers refuse to change or delete a row of what is append-only."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, PrimaryKeyConstraint, Table, Text

from jobdeck.store.columns import Id, Json
from jobdeck.store.schema.base import metadata

# The rows of one transaction are a batch, and numbered in it.
audit = Table(
    "audit",
    metadata,
    Column("batch", Id, nullable=False),
    Column("number", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("team_id", Id),
    Column("actor", Text, nullable=False),
    Column("login", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("code", Text),
    Column("count", Integer, nullable=False),
    Column("targets", Json, nullable=False),
    Column("reason", Text),
    Column("before", Json),
    Column("after", Json),
    PrimaryKeyConstraint("batch", "number"),
    Index("ix_audit_team", "team_id", "at"),
    sqlite_with_rowid=False,
)

# Batches that no seal holds yet. A row comes in the transaction of its batch and goes in that of its seal.
audit_unsealed = Table(
    "audit_unsealed",
    metadata,
    Column("batch", Id, primary_key=True),
    Column("count", Integer, nullable=False),
    sqlite_with_rowid=False,
)

# Each seal holds a digest of every row of its batches, and the hash of the seal before it.
audit_seals = Table(
    "audit_seals",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("count", Integer, nullable=False),
    Column("entries", Json, nullable=False),
    Column("previous", Text, nullable=False),
    Column("hash", Text, nullable=False),
)

APPEND_ONLY: Final = (audit, audit_seals)
