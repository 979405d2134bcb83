"""The tables. Times are integer microseconds since 1970 UTC by the database's clock; JSON is text.

Wide facts of a run are written once in `runs`; what changes while it runs is one narrow row of `leases`, deleted
at the end. Columns for triggers, limits, approvals and lineage that spec.md states are part of the first schema.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnClause,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
    text,
)

from jobdeck.limits import SYSTEM_TYPES
from jobdeck.states import Status
from jobdeck.store.columns import Id, Json, id_tail

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_STATUSES: Final = ", ".join(f"'{status.value}'" for status in Status)
_ACTIVE: Final = "status IN ('awaiting_approval', 'pending', 'running')"
_ROW_ID: Final = BigInteger().with_variant(Integer(), "sqlite")


def _number(name: str, default: int = 0) -> Column[Any]:
    return Column(name, Integer, nullable=False, server_default=text(str(default)))


def _flag(name: str) -> Column[Any]:
    return Column(name, Boolean, nullable=False, server_default=text("false"))


def _names(name: str) -> Column[Any]:
    return Column(name, Json, nullable=False, server_default=text("'[]'"))


def _progress() -> list[Column[Any]]:
    return [
        Column("processed", BigInteger, nullable=False, server_default=text("0")),
        Column("total", BigInteger),
        Column("failed", BigInteger, nullable=False, server_default=text("0")),
        Column("skipped", BigInteger, nullable=False, server_default=text("0")),
        Column("message", Text, nullable=False, server_default=text("''")),
    ]


teams = Table(
    "teams",
    metadata,
    Column("id", Id, primary_key=True),
    Column("slug", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

projects = Table(
    "projects",
    metadata,
    Column("id", Id, primary_key=True),
    Column("team_id", Id, ForeignKey("teams.id"), nullable=False),
    Column("slug", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("team_id", "slug"),
    UniqueConstraint("team_id", "id"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("team_id", Id, nullable=False),
    Column("project_id", Id),
    Column("slug", Text, nullable=False),
    Column("job_type", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("updated_by", Text, nullable=False),
    Column("archived_at", BigInteger),
    ForeignKeyConstraint(["team_id", "project_id"], ["projects.team_id", "projects.id"]),
)
_IN_PROJECT = text("project_id IS NOT NULL AND archived_at IS NULL")
Index(
    "uq_jobs_slug",
    jobs.c.team_id,
    jobs.c.project_id,
    jobs.c.slug,
    unique=True,
    sqlite_where=_IN_PROJECT,
    postgresql_where=_IN_PROJECT,
)
_IN_TEAM = text("project_id IS NULL AND archived_at IS NULL")
Index(
    "uq_jobs_team_slug",
    jobs.c.team_id,
    jobs.c.slug,
    unique=True,
    sqlite_where=_IN_TEAM,
    postgresql_where=_IN_TEAM,
)

# Never changed: an update of a job makes a new one.
job_versions = Table(
    "job_versions",
    metadata,
    Column("job_id", Id, ForeignKey("jobs.id"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("definition", Json, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("note", Text),
    PrimaryKeyConstraint("job_id", "version"),
    sqlite_with_rowid=False,
)

# When a job fires next; `next_fire_at` is NULL while it is disabled, and after its last fire.
schedules = Table(
    "schedules",
    metadata,
    Column("id", Id, primary_key=True),
    Column("job_id", Id, ForeignKey("jobs.id"), nullable=False, unique=True),
    Column("team_id", Id, nullable=False),
    Column("next_fire_at", BigInteger),
    Column("last_fire_at", BigInteger),
    Column("last_run_id", Id),
    Column("note", Text),
)
_FIRES = text("next_fire_at IS NOT NULL")
Index(
    "ix_schedules_due",
    schedules.c.next_fire_at,
    schedules.c.id,
    sqlite_where=_FIRES,
    postgresql_where=_FIRES,
)

job_types = Table(
    "job_types",
    metadata,
    Column("name", Text, primary_key=True),
    Column("title", Text, nullable=False),
    Column("category", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("schema", Json, nullable=False),
    Column("defaults", Json, nullable=False),
    Column("package", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    _names("labels"),
)

workers = Table(
    "workers",
    metadata,
    Column("id", Id, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("version", Text, nullable=False),
    Column("queues", Json, nullable=False),
    Column("job_types", Json, nullable=False),
    Column("slots", Integer, nullable=False),
    _number("running"),
    Column("state", Text, nullable=False),
    _flag("stalled"),
    Column("started_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("alive_until", BigInteger, nullable=False),
    Column("finished_runs", BigInteger, nullable=False, server_default=text("0")),
    Column("rss_bytes", BigInteger),
    _names("labels"),
    Index(None, "alive_until"),
)

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
    _number("blocked"),
    _number("gate"),
    _number("revision", 1),
    # Counters (design: fence keys the attempts, failures alone is compared with max_attempts).
    _number("fence"),
    _number("attempt"),
    _number("failures"),
    _number("crash_count"),
    _number("max_attempts", 3),
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
    _flag("behind"),
    Column("concurrency_key", Text),
    Column("idempotency_key", Text),
    Column("dedupe_key", Text),
    Column("dedupe_until", BigInteger),
    Column("callback_url", Text),
    _flag("notify"),
    _flag("debug_mode"),
    _flag("requires_approval"),
    Column("approved_at", BigInteger),
    Column("approved_by", Text),
    Column("approved_hash", Text),
    # Other runs wait for its end; it waits for its turn under a key; it is kept for good.
    _flag("awaited"),
    _flag("gated"),
    _flag("pinned"),
    # How it went; progress is copied here from the lease when an attempt ends.
    *_progress(),
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
    CheckConstraint(f"status IN ({_STATUSES})", name="status"),
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
    sqlite_where=_READY,
    postgresql_where=_READY,
)
# What may run out of time before it begins.
EXPIRES: Final[ColumnClause[Any]] = literal_column(
    "expires_at IS NOT NULL AND status IN ('awaiting_approval', 'pending')"
)
Index("ix_runs_expires", runs.c.expires_at, runs.c.id, sqlite_where=EXPIRES, postgresql_where=EXPIRES)
# Lists without a type leave system jobs out, and so do their indexes. Such conditions are the same words in an index
# and in its queries, values included, or a database would not see that they fit.
ORDINARY: Final[ColumnClause[Any]] = literal_column(
    f"substr(job_type, 1, {len(SYSTEM_TYPES)}) <> '{SYSTEM_TYPES}'"
)
_ORDINARY: Final[dict[str, Any]] = {"sqlite_where": ORDINARY, "postgresql_where": ORDINARY}
Index("ix_runs_list", runs.c.team_id, runs.c.created_at, runs.c.id, **_ORDINARY)
Index("ix_runs_list_status", runs.c.team_id, runs.c.status, runs.c.created_at, runs.c.id, **_ORDINARY)
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
    sqlite_where=LISTED,
    postgresql_where=LISTED,
)
# What lists show of an id is its end. Ids made one after another end alike (`jobdeck.ids`), so this index grows in few
# places.
Index("ix_runs_tail", id_tail(runs.c.id))
# At most one active run has a key, and one more may stand behind it.
HOLDS_FLIGHT: Final[ColumnClause[Any]] = literal_column(f"flight_key IS NOT NULL AND {_ACTIVE}")
Index(
    "uq_runs_flight",
    runs.c.team_id,
    runs.c.flight_key,
    runs.c.behind,
    unique=True,
    sqlite_where=HOLDS_FLIGHT,
    postgresql_where=HOLDS_FLIGHT,
)
HOLDS_DEDUPE: Final[ColumnClause[Any]] = literal_column(
    f"dedupe_key IS NOT NULL AND dedupe_until IS NULL AND {_ACTIVE}"
)
Index(
    "uq_runs_dedupe",
    runs.c.team_id,
    runs.c.job_type,
    runs.c.dedupe_key,
    runs.c.behind,
    unique=True,
    sqlite_where=HOLDS_DEDUPE,
    postgresql_where=HOLDS_DEDUPE,
)

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
    Index("ix_run_waits_open", "on_id", sqlite_where=text("open"), postgresql_where=text("open")),
    sqlite_with_rowid=False,
)

OF_JOB: Final[ColumnClause[Any]] = literal_column("job_id IS NOT NULL")
Index(
    "ix_runs_job",
    runs.c.job_id,
    runs.c.created_at,
    runs.c.id,
    sqlite_where=OF_JOB,
    postgresql_where=OF_JOB,
)

# A fire makes one run, however many workers see that it is time.
_FIRED = text("fire_at IS NOT NULL")
Index(
    "uq_runs_fire",
    runs.c.job_id,
    runs.c.fire_at,
    unique=True,
    sqlite_where=_FIRED,
    postgresql_where=_FIRED,
)

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

# What hangs on a run has no foreign key to it. Every row is written in a transaction that holds the run's own row or
# its lease, while PostgreSQL would look every one up again (6-15 microseconds each, more than the row itself costs)
# and lock the run against those who cancel it.

leases = Table(
    "leases",
    metadata,
    Column("run_id", Id, primary_key=True),
    Column("team_id", Id, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("worker_id", Id, nullable=False),
    Column("worker", Text, nullable=False),
    Column("claimed_at", BigInteger, nullable=False),
    Column("beat_at", BigInteger, nullable=False),
    Column("lease_until", BigInteger, nullable=False),
    Column("cancel_requested_at", BigInteger),
    _flag("stalled"),
    _number("revision"),
    *_progress(),
    Column("progress_at", BigInteger),
    Column("progress_gap", BigInteger),
    Column("log_bytes", BigInteger, nullable=False, server_default=text("0")),
    Index(
        "ix_leases_cancel",
        "worker_id",
        sqlite_where=text("cancel_requested_at IS NOT NULL"),
        postgresql_where=text("cancel_requested_at IS NOT NULL"),
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
    PrimaryKeyConstraint("run_id", "fence"),
    sqlite_with_rowid=False,
)

run_events = Table(
    "run_events",
    metadata,
    Column("id", _ROW_ID, Identity(always=True), primary_key=True),
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
    Column("id", _ROW_ID, Identity(always=True), primary_key=True),
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
