"""Saved jobs, their versions, and when they fire."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)

from jobdeck.store.columns import Id, Json
from jobdeck.store.schema.base import metadata, only

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
    **only(_IN_PROJECT),
)
_IN_TEAM = text("project_id IS NULL AND archived_at IS NULL")
Index(
    "uq_jobs_team_slug",
    jobs.c.team_id,
    jobs.c.slug,
    unique=True,
    **only(_IN_TEAM),
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
    **only(_FIRES),
)
