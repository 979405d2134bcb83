"""What new runs are told apart by, and what they wait for."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, PrimaryKeyConstraint, Table, Text, text

from jobdeck.store.columns import Id
from jobdeck.store.schema.base import metadata, only

# Keys that stand for a time, whatever becomes of their run.
run_keys = Table(
    "run_keys",
    metadata,
    Column("team_id", Id, nullable=False),
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("run_id", Id, nullable=False),
    Column("request", Text, nullable=False),
    Column("until", BigInteger, nullable=False),
    PrimaryKeyConstraint("team_id", "kind", "key"),
    Index(None, "until"),
    sqlite_with_rowid=False,
)

# Which runs wait for the end of which; `open` until that has come.
run_waits = Table(
    "run_waits",
    metadata,
    Column("run_id", Id, nullable=False),
    Column("on_id", Id, nullable=False),
    Column("condition", Text, nullable=False),
    Column("open", Boolean, nullable=False, server_default=text("true")),
    PrimaryKeyConstraint("run_id", "on_id", "condition"),
    Index(
        "ix_run_waits_open",
        "on_id",
        **only(text("open")),
    ),
    # Who has waited for a run, long after: for what belongs together.
    Index("ix_run_waits_on", "on_id"),
    sqlite_with_rowid=False,
)
