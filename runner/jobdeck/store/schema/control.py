"""What holds runs back for all workers alike: limits of jobs and queues, and pauses."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Identity, Index, Integer, PrimaryKeyConstraint, Table, Text, text

from jobdeck.store.columns import Id, Json
from jobdeck.store.schema.base import ROW_ID, flag, metadata, only

# What there is to know of a queue; runs may stand in a queue that has no row.
queues = Table(
    "queues",
    metadata,
    Column("team_id", Id, nullable=False),
    Column("name", Text, nullable=False),
    # Programs claim from it, and workers leave it alone.
    flag("pull"),
    Column("description", Text, nullable=False, server_default=text("''")),
    Column("max_concurrency", Integer),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    PrimaryKeyConstraint("team_id", "name"),
    sqlite_with_rowid=False,
)
_LIMITED = text("max_concurrency IS NOT NULL")
Index(
    "ix_queues_limited",
    queues.c.team_id,
    **only(_LIMITED),
)

# Runs with a gate (runs.gate) stand in lanes of their own, and are taken only as its limits allow. A job has one as
# soon as it has limits or is paused; so has a job type in a team whose runs have concurrency keys.
gates = Table(
    "gates",
    metadata,
    Column("id", ROW_ID, Identity(always=True), primary_key=True),
    Column("team_id", Id, nullable=False),
    Column("job_id", Id),
    Column("job_type", Text),
    Column("limits", Json, nullable=False),
    # Whether runs with concurrency keys have stood behind it: then it stays.
    flag("keyed"),
)
_OF_JOB = text("job_id IS NOT NULL")
Index(
    "uq_gates_job",
    gates.c.job_id,
    unique=True,
    **only(_OF_JOB),
)
_OF_TYPE = text("job_type IS NOT NULL")
Index(
    "uq_gates_type",
    gates.c.team_id,
    gates.c.job_type,
    unique=True,
    **only(_OF_TYPE),
)

# Names of rate limits that several jobs may share: who looks at one and adds to it has its row locked.
rates = Table(
    "rates",
    metadata,
    Column("team_id", Id, nullable=False),
    Column("name", Text, nullable=False),
    PrimaryKeyConstraint("team_id", "name"),
    sqlite_with_rowid=False,
)

# When runs began under a rate limit, for as long as that matters.
rate_uses = Table(
    "rate_uses",
    metadata,
    Column("team_id", Id, nullable=False),
    Column("name", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("uses", Integer, nullable=False),
    PrimaryKeyConstraint("team_id", "name", "at"),
    sqlite_with_rowid=False,
)

# Without a team it holds for everything; of a team, a queue, a job type or a job (by its gate).
pauses = Table(
    "pauses",
    metadata,
    Column("id", Id, primary_key=True),
    Column("team_id", Id),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("gate", Integer),
    Column("reason", Text),
    Column("actor", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("until", BigInteger),
)
