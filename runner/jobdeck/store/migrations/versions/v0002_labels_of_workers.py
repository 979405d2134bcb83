"""Labels: what a worker offers, and what a job type asks of the worker that takes its runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from jobdeck.store.columns import Json

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("job_types", "workers"):
        op.add_column(table, sa.Column("labels", Json(), server_default=sa.text("'[]'"), nullable=False))
