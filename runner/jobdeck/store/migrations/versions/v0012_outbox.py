"""Notifications: an outbox, secrets of webhooks, endpoints that want no more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from jobdeck.store.columns import Id, Json

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _mark_runs()
    op.create_table(
        "outbox",
        sa.Column("id", Id(), nullable=False),
        sa.Column("team_id", Id(), nullable=False),
        sa.Column("run_id", Id(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("receiver", sa.Text(), nullable=False),
        sa.Column("owner_id", Id(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("tries_max", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("delivered_at", sa.BigInteger(), nullable=True),
        sa.Column("response_code", sa.Integer(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("body", Json(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    op.create_index(op.f("ix_outbox_run_id"), "outbox", ["run_id"])
    op.create_index("ix_outbox_list", "outbox", ["team_id", "created_at", "id"])
    due = sa.text("state IN ('pending', 'sending')")
    op.create_index(
        "ix_outbox_due",
        "outbox",
        ["channel", "next_at", "receiver", "id"],
        sqlite_where=due,
        postgresql_where=due,
    )
    op.create_table(
        "webhook_secrets",
        sa.Column("owner_id", Id(), nullable=False),
        sa.Column("team_id", Id(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("previous", sa.Text(), nullable=True),
        sa.Column("previous_until", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", name=op.f("pk_webhook_secrets")),
    )
    op.create_index(op.f("ix_webhook_secrets_team_id"), "webhook_secrets", ["team_id"])
    op.create_table(
        "disabled_webhooks",
        sa.Column("id", Id(), nullable=False),
        sa.Column("team_id", Id(), nullable=False),
        sa.Column("owner_id", Id(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("disabled_at", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_disabled_webhooks")),
    )
    op.create_index(op.f("ix_disabled_webhooks_team_id"), "disabled_webhooks", ["team_id"])


def _mark_runs() -> None:
    """The flag of runs whose end somebody is told of. To put it before what is wide, SQLite writes the table anew."""
    conn = op.get_bind()
    sqlite = op.get_context().dialect.name == "sqlite"
    query = (
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'runs' AND sql IS NOT NULL"
    )
    kept = list(conn.exec_driver_sql(query)) if sqlite else []
    for index in kept:
        op.drop_index(index.name, "runs")
    with op.batch_alter_table("runs", recreate="always" if sqlite else "never") as table:
        flag: sa.Column[bool] = sa.Column(
            "announces", sa.Boolean(), server_default=sa.text("false"), nullable=False
        )
        table.add_column(flag, insert_after="awaited" if sqlite else None)
    for index in kept:
        conn.exec_driver_sql(index.sql)
    waiting = "status IN ('awaiting_approval', 'pending', 'running')"
    conn.exec_driver_sql(f"UPDATE runs SET announces = true WHERE notify AND {waiting}")  # noqa: S608
