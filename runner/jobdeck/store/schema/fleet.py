"""Workers, and the job types that they know."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, text

from jobdeck.store.columns import Id, Json
from jobdeck.store.schema.base import flag, metadata, names, number

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
    names("labels"),
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
    number("running"),
    Column("state", Text, nullable=False),
    flag("stalled"),
    Column("started_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("alive_until", BigInteger, nullable=False),
    Column("finished_runs", BigInteger, nullable=False, server_default=text("0")),
    Column("rss_bytes", BigInteger),
    names("labels"),
    Index(None, "alive_until"),
)
