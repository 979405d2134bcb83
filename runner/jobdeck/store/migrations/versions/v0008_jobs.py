"""Saved jobs, and every version of their definitions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from jobdeck.store.columns import Id, Json

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_KEPT = "archived_at IS NULL"


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", Id(), nullable=False),
        sa.Column("team_id", Id(), nullable=False),
        sa.Column("project_id", Id(), nullable=True),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("job_type", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.Column("archived_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["team_id", "project_id"],
            ["projects.team_id", "projects.id"],
            name=op.f("fk_jobs_team_id_project_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    for name, columns, condition in (
        ("uq_jobs_slug", ["team_id", "project_id", "slug"], f"project_id IS NOT NULL AND {_KEPT}"),
        ("uq_jobs_team_slug", ["team_id", "slug"], f"project_id IS NULL AND {_KEPT}"),
    ):
        where = sa.text(condition)
        op.create_index(name, "jobs", columns, unique=True, sqlite_where=where, postgresql_where=where)
    op.create_table(
        "job_versions",
        sa.Column("job_id", Id(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("definition", Json(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_versions_job_id")),
        sa.PrimaryKeyConstraint("job_id", "version", name=op.f("pk_job_versions")),
        sqlite_with_rowid=False,
    )
    of_job = sa.text("job_id IS NOT NULL")
    op.create_index(
        "ix_runs_job",
        "runs",
        ["job_id", "created_at", "id"],
        unique=False,
        sqlite_where=of_job,
        postgresql_where=of_job,
    )
