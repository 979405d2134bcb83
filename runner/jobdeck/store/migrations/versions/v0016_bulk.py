"""Acts on many runs, worked off step by step."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from jobdeck.store.columns import Id, Json

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    zero = sa.text("0")
    op.create_table(
        "bulk_operations",
        sa.Column("id", Id(), nullable=False),
        sa.Column("team_id", Id(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("filter", Json(), nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("own", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        *(
            sa.Column(name, sa.Integer(), server_default=zero, nullable=False)
            for name in ("total", "done", "skipped", "failed")
        ),
        sa.Column("refused", Json(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("samples", Json(), server_default=sa.text("'[]'"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bulk_operations")),
    )
    op.create_index(
        "ix_bulk_operations_list", "bulk_operations", ["team_id", "created_at", "id"], unique=False
    )
    unfinished = sa.text("finished_at IS NULL")
    op.create_index(
        "ix_bulk_operations_open",
        "bulk_operations",
        ["id"],
        unique=False,
        sqlite_where=unfinished,
        postgresql_where=unfinished,
    )
    op.create_table(
        "bulk_steps",
        sa.Column("bulk_id", Id(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("targets", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["bulk_id"], ["bulk_operations.id"], name=op.f("fk_bulk_steps_bulk_id")),
        sa.PrimaryKeyConstraint("bulk_id", "number", name=op.f("pk_bulk_steps")),
    )
