"""Runs, and the indexes by which claims and lists find them.

Wide facts of a run are written once; what changes while it runs is a narrow row of `leases`, deleted at the end.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ColumnClause,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    literal_column,
    text,
)

from jobdeck.limits import SYSTEM_TYPES
from jobdeck.store.columns import Id, Json, id_tail
from jobdeck.store.schema.base import ACTIVE, STATUSES, flag, metadata, number, only, progress

runs = Table(
    "runs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("team_id", Id, nullable=False),
    Column("project_id", Id),
    Column("status", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("job_type", Text, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("expires_at", BigInteger),
    # Claims look only at what is ready: pending, and blocked by nothing. `gate` names the limits that hold for a run.
    number("blocked"),
    number("gate"),
    number("revision", 1),
    # Counters (design: fence keys the attempts, failures alone is compared with max_attempts).
    number("fence"),
    number("attempt"),
    number("failures"),
    number("crash_count"),
    number("max_attempts", 3),
    Column("timeout_s", Float, nullable=False, server_default=text("0")),
    # What was asked for, written once.
    Column("name", Text, nullable=False),
    Column("category", Text, nullable=False),
    Column("trigger_type", Text, nullable=False),
    Column("triggered_by", Text, nullable=False),
    Column("job_id", Id),
    Column("job_version", Integer),
    Column("schedule_id", Id),
    Column("fire_at", BigInteger),
    Column("batch_id", Id),
    Column("environment", Text),
    Column("parent_run_id", Id),
    Column("continuation_of", Id),
    Column("lineage_depth", SmallInteger, nullable=False, server_default=text("0")),
    Column("flight_key", Text),
    flag("behind"),
    Column("concurrency_key", Text),
    Column("idempotency_key", Text),
    Column("dedupe_key", Text),
    Column("dedupe_until", BigInteger),
    Column("callback_url", Text),
    flag("notify"),
    flag("debug_mode"),
    flag("requires_approval"),
    Column("approved_at", BigInteger),
    Column("approved_by", Text),
    Column("approved_hash", Text),
    # Other runs wait for its end; people are told of it; it waits for its turn under a key; it is kept for good.
    flag("awaited"),
    flag("announces"),
    flag("gated"),
    flag("pinned"),
    # How it went; progress is copied here from the lease when an attempt ends.
    *progress(),
    Column("cancel_requested_at", BigInteger),
    Column("cancel_requested_by", Text),
    Column("cancel_reason", Text),
    Column("failure_kind", Text),
    Column("error", Text),
    Column("log_bytes", BigInteger, nullable=False, server_default=text("0")),
    # What is wide stands last: on SQLite a column is reached through all that stands before it in its row.
    Column("backoff", Json),
    Column("overrides", Json),
    Column("tags", Json),
    Column("metadata", Json),
    Column("params", Json, nullable=False),
    Column("traceback", Text),
    Column("result", Json),
    ForeignKeyConstraint(["team_id", "project_id"], ["projects.team_id", "projects.id"]),
    CheckConstraint(f"status IN ({STATUSES})", name="status"),
    CheckConstraint("priority BETWEEN 1 AND 10", name="priority"),
    CheckConstraint("max_attempts BETWEEN 1 AND 100", name="max_attempts"),
)

# Claim walks lanes (team, queue, type, gate, priority) and takes the earliest due of each: what is ready only.
_READY = text("status = 'pending' AND blocked = 0")
Index(
    "ix_runs_ready",
    runs.c.team_id,
    runs.c.queue,
    runs.c.job_type,
    runs.c.gate,
    runs.c.priority,
    runs.c.due_at,
    runs.c.id,
    **only(_READY),
)
# What may run out of time before it begins.
EXPIRES: Final[ColumnClause[Any]] = literal_column(
    "expires_at IS NOT NULL AND status IN ('awaiting_approval', 'pending')"
)
Index(
    "ix_runs_expires",
    runs.c.expires_at,
    runs.c.id,
    **only(EXPIRES),
)
# Lists without a type leave system jobs out, and so do their indexes. Such conditions are the same words in an index
# and in its queries, values included, or a database would not see that they fit.
ORDINARY: Final[ColumnClause[Any]] = literal_column(
    f"substr(job_type, 1, {len(SYSTEM_TYPES)}) <> '{SYSTEM_TYPES}'"
)
Index("ix_runs_list", runs.c.team_id, runs.c.created_at, runs.c.id, **only(ORDINARY))
Index("ix_runs_list_status", runs.c.team_id, runs.c.status, runs.c.created_at, runs.c.id, **only(ORDINARY))
# True of every run and no bound to read an index by, and said by lists alone. A claim, which knows team and type as
# well, cannot use this index then: a server without statistics would read all runs of the type by it, ended ones too,
# to sort them by their due times.
LISTED: Final[ColumnClause[Any]] = literal_column("length(job_type) > 0")
Index(
    "ix_runs_list_type",
    runs.c.team_id,
    runs.c.job_type,
    runs.c.created_at,
    runs.c.id,
    **only(LISTED),
)
# What lists show of an id is its end. Ids made one after another end alike (`jobdeck.ids`), so this index grows in few
# places.
Index("ix_runs_tail", id_tail(runs.c.id))
# At most one active run has a key, and one more may stand behind it.
HOLDS_FLIGHT: Final[ColumnClause[Any]] = literal_column(f"flight_key IS NOT NULL AND {ACTIVE}")
Index(
    "uq_runs_flight",
    runs.c.team_id,
    runs.c.flight_key,
    runs.c.behind,
    unique=True,
    **only(HOLDS_FLIGHT),
)
HOLDS_DEDUPE: Final[ColumnClause[Any]] = literal_column(
    f"dedupe_key IS NOT NULL AND dedupe_until IS NULL AND {ACTIVE}"
)
Index(
    "uq_runs_dedupe",
    runs.c.team_id,
    runs.c.job_type,
    runs.c.dedupe_key,
    runs.c.behind,
    unique=True,
    **only(HOLDS_DEDUPE),
)
OF_JOB: Final[ColumnClause[Any]] = literal_column("job_id IS NOT NULL")
Index(
    "ix_runs_job",
    runs.c.job_id,
    runs.c.created_at,
    runs.c.id,
    **only(OF_JOB),
)

# Who comes after a run: few have a parent or continue another one, and only those cost an entry.
_HAS_PARENT = text("parent_run_id IS NOT NULL")
Index("ix_runs_parent", runs.c.parent_run_id, **only(_HAS_PARENT))
_CONTINUES = text("continuation_of IS NOT NULL")
Index("ix_runs_continuation", runs.c.continuation_of, **only(_CONTINUES))

# A fire makes one run, however many workers see that it is time.
_FIRED = text("fire_at IS NOT NULL")
Index(
    "uq_runs_fire",
    runs.c.job_id,
    runs.c.fire_at,
    unique=True,
    **only(_FIRED),
)

# Who waits for its turn under a concurrency key.
GATED: Final[ColumnClause[Any]] = literal_column("gated AND status = 'pending'")
Index(
    "ix_runs_gated",
    runs.c.gate,
    runs.c.concurrency_key,
    runs.c.priority,
    runs.c.due_at,
    runs.c.id,
    **only(GATED),
)
