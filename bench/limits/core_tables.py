"""The tables of `bench.limits.job_table` for SQLAlchemy Core."""

from __future__ import annotations

from sqlalchemy import Column, Integer, MetaData, Table, Text

metadata = MetaData()

job = Table(
    "job",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("team", Integer),
    Column("type", Text),
    Column("status", Integer),
    Column("priority", Integer),
    Column("due_at", Integer),
    Column("created_at", Integer),
    Column("payload", Text),
    Column("attempts", Integer),
    Column("worker", Text),
    Column("lease_until", Integer),
    Column("finished_at", Integer),
)

ran = Table(
    "ran",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", Integer),
    Column("attempt", Integer),
    Column("status", Integer),
    Column("worker", Text),
    Column("started_at", Integer),
    Column("finished_at", Integer),
    Column("result", Text),
)
