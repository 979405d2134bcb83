"""Which jobs start after which others, what they start as, and the runs that a run was started by."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, PrimaryKeyConstraint, Table, Text

from jobdeck.store.columns import Id, Json
from jobdeck.store.schema.base import metadata

# `met_run_id` is the run of the other job that has met the condition since the job was started the last time.
job_dependencies = Table(
    "job_dependencies",
    metadata,
    Column("job_id", Id, ForeignKey("jobs.id"), nullable=False),
    Column("depends_on_job_id", Id, ForeignKey("jobs.id"), nullable=False),
    Column("team_id", Id, nullable=False),
    Column("condition", Text, nullable=False),
    Column("met_run_id", Id),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    PrimaryKeyConstraint("job_id", "depends_on_job_id"),
    Index(None, "depends_on_job_id"),
    Index(None, "team_id"),
    sqlite_with_rowid=False,
)

# Whoever ends a run may know nothing of the type of a job that starts after it: so the run is made beforehand.
job_templates = Table(
    "job_templates",
    metadata,
    Column("job_id", Id, ForeignKey("jobs.id"), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("run", Json, nullable=False),
)

run_parents = Table(
    "run_parents",
    metadata,
    Column("run_id", Id, nullable=False),
    Column("parent_run_id", Id, nullable=False),
    Column("job_id", Id, nullable=False),
    PrimaryKeyConstraint("run_id", "parent_run_id"),
    Index(None, "parent_run_id"),
    sqlite_with_rowid=False,
)
