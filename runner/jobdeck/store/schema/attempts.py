"""What hangs on a run: its lease while it runs, its attempts, history, log and checkpoint."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Identity, Index, Integer, PrimaryKeyConstraint, Table, Text, text

from jobdeck.store.columns import Id, Json
from jobdeck.store.schema.base import ROW_ID, flag, metadata, number, only, progress

# What hangs on a run has no foreign key to it. Every row is written in a transaction that holds the run's own row or
# its lease, while PostgreSQL would look every one up again (6-15 microseconds each, more than the row itself costs)
# and lock the run against those who cancel it.

leases = Table(
    "leases",
    metadata,
    Column("run_id", Id, primary_key=True),
    Column("team_id", Id, nullable=False),
    Column("fence", Integer, nullable=False),
    # NULL: it belongs to whoever has the token (`jobdeck.pull`).
    Column("worker_id", Id),
    Column("worker", Text, nullable=False),
    Column("claimed_at", BigInteger, nullable=False),
    Column("beat_at", BigInteger, nullable=False),
    Column("lease_until", BigInteger, nullable=False),
    Column("cancel_requested_at", BigInteger),
    flag("stalled"),
    number("revision"),
    *progress(),
    Column("progress_at", BigInteger),
    Column("progress_gap", BigInteger),
    Column("log_bytes", BigInteger, nullable=False, server_default=text("0")),
    # Of a lease that has a token: its digest, the wait before the next attempt should this one fail, and whether a
    # handler has parked the run.
    Column("token_hash", Text),
    Column("retry_us", BigInteger),
    flag("parked"),
    Index(
        "ix_leases_cancel",
        "worker_id",
        **only(text("cancel_requested_at IS NOT NULL")),
    ),
    # Beats and progress rewrite these rows all the time; room on the page keeps such updates off the indexes.
    postgresql_with={"fillfactor": 50},
    sqlite_with_rowid=False,
)

attempts = Table(
    "attempts",
    metadata,
    Column("run_id", Id, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("worker_id", Id),
    Column("worker", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("error", Text),
    Column("traceback", Text),
    Column("trace", Json),
    PrimaryKeyConstraint("run_id", "fence"),
    sqlite_with_rowid=False,
)

run_events = Table(
    "run_events",
    metadata,
    Column("id", ROW_ID, Identity(always=True), primary_key=True),
    Column("run_id", Id, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("data", Json),
    Index(None, "run_id"),
)

run_logs = Table(
    "run_logs",
    metadata,
    Column("id", ROW_ID, Identity(always=True), primary_key=True),
    Column("run_id", Id, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("level", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("fields", Json),
    Index(None, "run_id", "id"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("run_id", Id, primary_key=True),
    Column("fence", Integer, nullable=False),
    Column("state", Json, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
