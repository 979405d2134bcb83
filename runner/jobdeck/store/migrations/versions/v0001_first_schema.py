"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from jobdeck.store.columns import Id, Json

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "job_types",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("schema", Json(), nullable=False),
        sa.Column("defaults", Json(), nullable=False),
        sa.Column("package", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_job_types")),
    )
    op.create_table(
        "teams",
        sa.Column("id", Id(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_teams")),
        sa.UniqueConstraint("slug", name=op.f("uq_teams_slug")),
    )
    op.create_table(
        "workers",
        sa.Column("id", Id(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("queues", Json(), nullable=False),
        sa.Column("job_types", Json(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("running", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("stalled", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("alive_until", sa.BigInteger(), nullable=False),
        sa.Column("finished_runs", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("rss_bytes", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    op.create_index(op.f("ix_workers_alive_until"), "workers", ["alive_until"], unique=False)
    op.create_table(
        "projects",
        sa.Column("id", Id(), nullable=False),
        sa.Column("team_id", Id(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_projects_team_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_projects")),
        sa.UniqueConstraint("team_id", "id", name=op.f("uq_projects_team_id_id")),
        sa.UniqueConstraint("team_id", "slug", name=op.f("uq_projects_team_id_slug")),
    )
    op.create_table(
        "runs",
        sa.Column("id", Id(), nullable=False),
        sa.Column("team_id", Id(), nullable=False),
        sa.Column("project_id", Id(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("job_type", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("revision", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("fence", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("crash_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("max_attempts", sa.Integer(), server_default=sa.text("3"), nullable=False),
        sa.Column("timeout_s", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("trigger_type", sa.Text(), nullable=False),
        sa.Column("triggered_by", sa.Text(), nullable=False),
        sa.Column("job_id", Id(), nullable=True),
        sa.Column("job_version", sa.Integer(), nullable=True),
        sa.Column("schedule_id", Id(), nullable=True),
        sa.Column("batch_id", Id(), nullable=True),
        sa.Column("parent_run_id", Id(), nullable=True),
        sa.Column("continuation_of", Id(), nullable=True),
        sa.Column("flight_key", sa.Text(), nullable=True),
        sa.Column("concurrency_key", sa.Text(), nullable=True),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("dedupe_key", sa.Text(), nullable=True),
        sa.Column("callback_url", sa.Text(), nullable=True),
        sa.Column("notify", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("debug_mode", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("requires_approval", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("approved_at", sa.BigInteger(), nullable=True),
        sa.Column("approved_by", sa.Text(), nullable=True),
        sa.Column("processed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=True),
        sa.Column("failed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("skipped", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("message", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("cancel_requested_at", sa.BigInteger(), nullable=True),
        sa.Column("cancel_requested_by", sa.Text(), nullable=True),
        sa.Column("cancel_reason", sa.Text(), nullable=True),
        sa.Column("failure_kind", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("log_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("tags", Json(), nullable=True),
        sa.Column("metadata", Json(), nullable=True),
        sa.Column("params", Json(), nullable=False),
        sa.Column("traceback", sa.Text(), nullable=True),
        sa.Column("result", Json(), nullable=True),
        sa.CheckConstraint(
            "status IN ('awaiting_approval', 'pending', 'running', 'completed', 'failed', 'dead', 'cancelled', 'expired')",
            name=op.f("ck_runs_status"),
        ),
        sa.CheckConstraint("max_attempts BETWEEN 1 AND 100", name=op.f("ck_runs_max_attempts")),
        sa.CheckConstraint("priority BETWEEN 1 AND 10", name=op.f("ck_runs_priority")),
        sa.ForeignKeyConstraint(
            ["team_id", "project_id"],
            ["projects.team_id", "projects.id"],
            name=op.f("fk_runs_team_id_project_id"),
        ),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_runs_team_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
    )
    op.create_index("ix_runs_list", "runs", ["team_id", "created_at", "id"], unique=False)
    op.create_index("ix_runs_list_status", "runs", ["team_id", "status", "created_at", "id"], unique=False)
    op.create_index("ix_runs_list_type", "runs", ["team_id", "job_type", "created_at", "id"], unique=False)
    op.create_index(
        "ix_runs_pending",
        "runs",
        ["team_id", "queue", "job_type", "priority", "due_at", "id"],
        unique=False,
        sqlite_where=sa.text("status = 'pending'"),
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(
        "uq_runs_flight",
        "runs",
        ["team_id", "flight_key"],
        unique=True,
        sqlite_where=sa.text(
            "flight_key IS NOT NULL AND status IN ('awaiting_approval', 'pending', 'running')"
        ),
        postgresql_where=sa.text(
            "flight_key IS NOT NULL AND status IN ('awaiting_approval', 'pending', 'running')"
        ),
    )
    op.create_table(
        "attempts",
        sa.Column("run_id", Id(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker_id", Id(), nullable=True),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("traceback", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_attempts_run_id")),
        sa.PrimaryKeyConstraint("run_id", "fence", name=op.f("pk_attempts")),
    )
    op.create_table(
        "checkpoints",
        sa.Column("run_id", Id(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("state", Json(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_checkpoints_run_id")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_checkpoints")),
    )
    op.create_table(
        "leases",
        sa.Column("run_id", Id(), nullable=False),
        sa.Column("team_id", Id(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("worker_id", Id(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("claimed_at", sa.BigInteger(), nullable=False),
        sa.Column("beat_at", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", sa.BigInteger(), nullable=False),
        sa.Column("cancel_requested_at", sa.BigInteger(), nullable=True),
        sa.Column("stalled", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("revision", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("processed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=True),
        sa.Column("failed", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("skipped", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("message", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("progress_at", sa.BigInteger(), nullable=True),
        sa.Column("progress_gap", sa.BigInteger(), nullable=True),
        sa.Column("log_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_leases_run_id")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_leases")),
        postgresql_with={"fillfactor": 50},
    )
    op.create_index(op.f("ix_leases_worker_id"), "leases", ["worker_id"], unique=False)
    op.create_table(
        "run_events",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            sa.Identity(always=True),
            nullable=False,
        ),
        sa.Column("run_id", Id(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("data", Json(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_run_events_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run_events")),
    )
    op.create_index(op.f("ix_run_events_run_id"), "run_events", ["run_id"], unique=False)
    op.create_table(
        "run_logs",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            sa.Identity(always=True),
            nullable=False,
        ),
        sa.Column("run_id", Id(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("fields", Json(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_run_logs_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run_logs")),
    )
    op.create_index(op.f("ix_run_logs_run_id_id"), "run_logs", ["run_id", "id"], unique=False)
