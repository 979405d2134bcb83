"""The index of lists by type serves lists alone, so that no claim is planned by it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_LISTED = sa.text("length(job_type) > 0")


def upgrade() -> None:
    op.drop_index("ix_runs_list_type", "runs")
    op.create_index(
        "ix_runs_list_type",
        "runs",
        ["team_id", "job_type", "created_at", "id"],
        unique=False,
        sqlite_where=_LISTED,
        postgresql_where=_LISTED,
    )
