"""Limits of jobs and queues, and pauses."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from jobdeck.store.columns import Id, Json

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _queues()
    _gates()
    op.create_table(
        "rates",
        sa.Column("team_id", Id(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("team_id", "name", name=op.f("pk_rates")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "rate_uses",
        sa.Column("team_id", Id(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("team_id", "name", "at", name=op.f("pk_rate_uses")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "pauses",
        sa.Column("id", Id(), nullable=False),
        sa.Column("team_id", Id(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("gate", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pauses")),
    )
    gated = sa.text("gated AND status = 'pending'")
    op.create_index(
        "ix_runs_gated",
        "runs",
        ["gate", "concurrency_key", "priority", "due_at", "id"],
        unique=False,
        sqlite_where=gated,
        postgresql_where=gated,
    )


def _queues() -> None:
    op.create_table(
        "queues",
        sa.Column("team_id", Id(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("pull", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("description", sa.Text(), nullable=False, server_default=sa.text("''")),
        sa.Column("max_concurrency", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("team_id", "name", name=op.f("pk_queues")),
        sqlite_with_rowid=False,
    )
    limited = sa.text("max_concurrency IS NOT NULL")
    op.create_index(
        "ix_queues_limited",
        "queues",
        ["team_id"],
        unique=False,
        sqlite_where=limited,
        postgresql_where=limited,
    )


def _gates() -> None:
    op.create_table(
        "gates",
        sa.Column("id", _ROW_ID, sa.Identity(always=True), nullable=False),
        sa.Column("team_id", Id(), nullable=False),
        sa.Column("job_id", Id(), nullable=True),
        sa.Column("job_type", sa.Text(), nullable=True),
        sa.Column("limits", Json(), nullable=False),
        sa.Column("keyed", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gates")),
    )
    of_job, of_type = sa.text("job_id IS NOT NULL"), sa.text("job_type IS NOT NULL")
    op.create_index(
        "uq_gates_job", "gates", ["job_id"], unique=True, sqlite_where=of_job, postgresql_where=of_job
    )
    op.create_index(
        "uq_gates_type",
        "gates",
        ["team_id", "job_type"],
        unique=True,
        sqlite_where=of_type,
        postgresql_where=of_type,
    )
