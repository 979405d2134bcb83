"""Epochs of restores, and indexes by which is found what belongs together with a run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "store_epochs",
        sa.Column("epoch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("restored_at", sa.BigInteger(), nullable=False),
        sa.Column("restored_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("epoch", name=op.f("pk_store_epochs")),
    )
    for name, column in (("ix_runs_parent", "parent_run_id"), ("ix_runs_continuation", "continuation_of")):
        known = sa.text(f"{column} IS NOT NULL")
        op.create_index(name, "runs", [column], unique=False, sqlite_where=known, postgresql_where=known)
    op.create_index("ix_run_waits_on", "run_waits", ["on_id"], unique=False)
