"""Jobs that start after others, and what an attempt spent its time on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from jobdeck.store.columns import Id, Json

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempts", sa.Column("trace", Json(), nullable=True))
    op.create_table(
        "job_dependencies",
        sa.Column("job_id", Id(), nullable=False),
        sa.Column("depends_on_job_id", Id(), nullable=False),
        sa.Column("team_id", Id(), nullable=False),
        sa.Column("condition", sa.Text(), nullable=False),
        sa.Column("met_run_id", Id(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_dependencies_job_id")),
        sa.ForeignKeyConstraint(
            ["depends_on_job_id"], ["jobs.id"], name=op.f("fk_job_dependencies_depends_on_job_id")
        ),
        sa.PrimaryKeyConstraint("job_id", "depends_on_job_id", name=op.f("pk_job_dependencies")),
        sqlite_with_rowid=False,
    )
    for column in ("depends_on_job_id", "team_id"):
        op.create_index(op.f(f"ix_job_dependencies_{column}"), "job_dependencies", [column])
    op.create_table(
        "job_templates",
        sa.Column("job_id", Id(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("run", Json(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_templates_job_id")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_job_templates")),
    )
    op.create_table(
        "run_parents",
        sa.Column("run_id", Id(), nullable=False),
        sa.Column("parent_run_id", Id(), nullable=False),
        sa.Column("job_id", Id(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "parent_run_id", name=op.f("pk_run_parents")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_run_parents_parent_run_id"), "run_parents", ["parent_run_id"])
