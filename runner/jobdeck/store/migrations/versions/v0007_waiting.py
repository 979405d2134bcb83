"""What keeps a run from being ready: other runs, limits, approval, time; and keys that tell duplicates."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from jobdeck.store.columns import Id, Json

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_ACTIVE = "status IN ('awaiting_approval', 'pending', 'running')"
_ORDINARY = "substr(job_type, 1, 7) <> 'system.'"
_REPLACED = ("ix_runs_pending", "uq_runs_flight")
# To put columns before the wide ones SQLite writes the table anew, and loses sight of its indexes.
_KEPT: dict[str, tuple[list[Any], str | None]] = {
    "ix_runs_list": (["team_id", "created_at", "id"], _ORDINARY),
    "ix_runs_list_status": (["team_id", "status", "created_at", "id"], _ORDINARY),
    "ix_runs_list_type": (["team_id", "job_type", "created_at", "id"], "length(job_type) > 0"),
    "ix_runs_tail": ([sa.text("substr(id, -3)")], None),
}


def _number(name: str, kind: type[sa.Integer] = sa.Integer) -> sa.Column[int]:
    return sa.Column(name, kind(), server_default=sa.text("0"), nullable=False)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), server_default=sa.text("false"), nullable=False)


_COLUMNS: tuple[tuple[str, sa.Column[Any]], ...] = (
    ("expires_at", _number("blocked")),
    ("blocked", _number("gate")),
    ("schedule_id", sa.Column("fire_at", sa.BigInteger())),
    ("batch_id", sa.Column("environment", sa.Text())),
    ("continuation_of", _number("lineage_depth", sa.SmallInteger)),
    ("flight_key", _flag("behind")),
    ("dedupe_key", sa.Column("dedupe_until", sa.BigInteger())),
    ("approved_by", sa.Column("approved_hash", sa.Text())),
    ("approved_hash", _flag("awaited")),
    ("awaited", _flag("gated")),
    ("gated", _flag("pinned")),
    ("log_bytes", sa.Column("backoff", Json())),
    ("backoff", sa.Column("overrides", Json())),
)


def upgrade() -> None:
    sqlite = op.get_context().dialect.name == "sqlite"
    for name in (*_REPLACED, *(_KEPT if sqlite else ())):
        op.drop_index(name, "runs")
    with op.batch_alter_table("runs", recreate="always" if sqlite else "never") as table:
        for before, column in _COLUMNS:
            table.add_column(column, insert_after=before if sqlite else None)
    for name, (columns, condition) in (_KEPT if sqlite else {}).items():
        _index(name, columns, condition)
    lane = ["team_id", "queue", "job_type", "gate", "priority", "due_at", "id"]
    _index("ix_runs_ready", lane, "status = 'pending' AND blocked = 0")
    _index(
        "ix_runs_expires",
        ["expires_at", "id"],
        "expires_at IS NOT NULL AND status IN ('awaiting_approval', 'pending')",
    )
    _index(
        "uq_runs_flight",
        ["team_id", "flight_key", "behind"],
        f"flight_key IS NOT NULL AND {_ACTIVE}",
        unique=True,
    )
    _index(
        "uq_runs_dedupe",
        ["team_id", "job_type", "dedupe_key", "behind"],
        f"dedupe_key IS NOT NULL AND dedupe_until IS NULL AND {_ACTIVE}",
        unique=True,
    )
    _make_tables()


def _index(name: str, columns: list[Any], condition: str | None, *, unique: bool = False) -> None:
    where = None if condition is None else sa.text(condition)
    op.create_index(name, "runs", columns, unique=unique, sqlite_where=where, postgresql_where=where)


def _make_tables() -> None:
    op.create_table(
        "run_keys",
        sa.Column("team_id", Id(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("run_id", Id(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("team_id", "kind", "key", name=op.f("pk_run_keys")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_run_keys_until"), "run_keys", ["until"], unique=False)
    op.create_table(
        "run_waits",
        sa.Column("run_id", Id(), nullable=False),
        sa.Column("on_id", Id(), nullable=False),
        sa.Column("condition", sa.Text(), nullable=False),
        sa.Column("open", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "on_id", "condition", name=op.f("pk_run_waits")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_run_waits_open",
        "run_waits",
        ["on_id"],
        unique=False,
        sqlite_where=sa.text("open"),
        postgresql_where=sa.text("open"),
    )
