"""How often the store has been restored from a backup."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, Table, Text

from jobdeck.store.schema.base import metadata

# One row for each restore; none before the first. Fences of an epoch lie above all fences of the epochs before it.
store_epochs = Table(
    "store_epochs",
    metadata,
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("restored_at", BigInteger, nullable=False),
    Column("restored_by", Text, nullable=False),
)
