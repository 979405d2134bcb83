"""Lists leave system jobs out by their indexes, and a run is found by the end of its id."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ORDINARY = sa.text("substr(job_type, 1, 7) <> 'system.'")


def upgrade() -> None:
    for name, columns in (
        ("ix_runs_list", ["team_id", "created_at", "id"]),
        ("ix_runs_list_status", ["team_id", "status", "created_at", "id"]),
    ):
        op.drop_index(name, "runs")
        op.create_index(
            name, "runs", columns, unique=False, sqlite_where=_ORDINARY, postgresql_where=_ORDINARY
        )
    sqlite = op.get_context().dialect.name == "sqlite"
    last_bytes = "substr(id, -3)" if sqlite else "substr(uuid_send(id), 14)"
    op.create_index("ix_runs_tail", "runs", [sa.text(last_bytes)], unique=False)
