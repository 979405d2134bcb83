"""Leases that belong to whoever has their token."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from jobdeck.store.columns import Id

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "acks",
        sa.Column("run_id", Id(), nullable=False),
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("said", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "token_hash", name=op.f("pk_acks")),
        sqlite_with_rowid=False,
    )
    _open_leases()


def _open_leases() -> None:
    op.drop_index("ix_leases_cancel", table_name="leases")
    with op.batch_alter_table("leases", table_kwargs={"sqlite_with_rowid": False}) as table:
        table.alter_column("worker_id", existing_type=Id(), nullable=True)
        table.add_column(sa.Column("token_hash", sa.Text(), nullable=True))
        table.add_column(sa.Column("retry_us", sa.BigInteger(), nullable=True))
        table.add_column(sa.Column("parked", sa.Boolean(), nullable=False, server_default=sa.text("false")))
    asked = sa.text("cancel_requested_at IS NOT NULL")
    op.create_index(
        "ix_leases_cancel", "leases", ["worker_id"], unique=False, sqlite_where=asked, postgresql_where=asked
    )
