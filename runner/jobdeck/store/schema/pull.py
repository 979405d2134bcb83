"""What has been acknowledged by token."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Integer, PrimaryKeyConstraint, Table, Text

from jobdeck.store.columns import Id
from jobdeck.store.schema.base import metadata

# Apart from attempts, of which only few end by a token: the same ack once more is given the same reply.
acks = Table(
    "acks",
    metadata,
    Column("run_id", Id, nullable=False),
    Column("token_hash", Text, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("said", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column("at", BigInteger, nullable=False),
    PrimaryKeyConstraint("run_id", "token_hash"),
    sqlite_with_rowid=False,
)
