"""What the store keeps for itself: counters, and marks of commits."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, PrimaryKeyConstraint, SmallInteger, Table, Text

from jobdeck.store.columns import Id
from jobdeck.store.schema.base import metadata

run_counts = Table(
    "run_counts",
    metadata,
    Column("team_id", Id, nullable=False),
    Column("status", Text, nullable=False),
    Column("slot", SmallInteger, nullable=False),
    Column("runs", BigInteger, nullable=False),
    PrimaryKeyConstraint("team_id", "status", "slot"),
    # Changed by every commit; with room on the page such changes stay off the index and are cleared away at once.
    postgresql_with={"fillfactor": 10},
    sqlite_with_rowid=False,
)

# One row for each connection that writes to a server: what its last commit was. See `unknown_outcome`.
commit_marks = Table(
    "commit_marks",
    metadata,
    Column("lane", Id, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("since", BigInteger, nullable=False),
    # Rewritten by every commit: room on the page keeps such updates off the index.
    postgresql_with={"fillfactor": 10},
)
