"""Schedules of jobs: when each fires next."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from jobdeck.store.columns import Id

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "schedules",
        sa.Column("id", Id(), nullable=False),
        sa.Column("job_id", Id(), nullable=False),
        sa.Column("team_id", Id(), nullable=False),
        sa.Column("next_fire_at", sa.BigInteger(), nullable=True),
        sa.Column("last_fire_at", sa.BigInteger(), nullable=True),
        sa.Column("last_run_id", Id(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_schedules_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedules")),
        sa.UniqueConstraint("job_id", name=op.f("uq_schedules_job_id")),
    )
    due = sa.text("next_fire_at IS NOT NULL")
    op.create_index(
        "ix_schedules_due",
        "schedules",
        ["next_fire_at", "id"],
        unique=False,
        sqlite_where=due,
        postgresql_where=due,
    )
    fired = sa.text("fire_at IS NOT NULL")
    op.create_index(
        "uq_runs_fire",
        "runs",
        ["job_id", "fire_at"],
        unique=True,
        sqlite_where=fired,
        postgresql_where=fired,
    )
