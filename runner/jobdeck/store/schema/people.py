"""Who belongs to which team."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, PrimaryKeyConstraint, Table, Text

from jobdeck.store.columns import Id
from jobdeck.store.schema.base import metadata

members = Table(
    "members",
    metadata,
    Column("team_id", Id, ForeignKey("teams.id"), nullable=False),
    Column("actor", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("added_at", BigInteger, nullable=False),
    Column("added_by", Text, nullable=False),
    PrimaryKeyConstraint("team_id", "actor"),
    sqlite_with_rowid=False,
)
