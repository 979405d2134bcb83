"""Counters of runs; no foreign keys from what hangs on a run, and no index that every claim has to keep."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from jobdeck.store.columns import Id

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_CHILDREN = ("attempts", "checkpoints", "leases", "run_events", "run_logs")
# On SQLite a table stored by its primary key needs no index beside it: fewer pages to write for every run.
_BY_KEY = ("attempts", "leases")
_CLUSTERED = {"sqlite_with_rowid": False}
_COUNT = """
INSERT INTO run_counts (team_id, status, slot, runs)
SELECT team_id, status, 0, count(*) FROM runs WHERE substr(job_type, 1, 7) <> 'system.' GROUP BY team_id, status
"""


def upgrade() -> None:
    op.drop_index("ix_leases_worker_id", table_name="leases")
    for name in _CHILDREN:
        with op.batch_alter_table(name, table_kwargs=_CLUSTERED if name in _BY_KEY else {}) as table:
            table.drop_constraint(f"fk_{name}_run_id", type_="foreignkey")
    with op.batch_alter_table("runs") as table:
        table.drop_constraint("fk_runs_team_id", type_="foreignkey")
    op.create_index(
        "ix_leases_cancel",
        "leases",
        ["worker_id"],
        unique=False,
        sqlite_where=sa.text("cancel_requested_at IS NOT NULL"),
        postgresql_where=sa.text("cancel_requested_at IS NOT NULL"),
    )
    op.create_table(
        "run_counts",
        sa.Column("team_id", Id(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("slot", sa.SmallInteger(), nullable=False),
        sa.Column("runs", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("team_id", "status", "slot", name=op.f("pk_run_counts")),
        postgresql_with={"fillfactor": 10},
        sqlite_with_rowid=False,
    )
    op.execute(_COUNT)
