"""Bulk operations as they are read."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select

from jobdeck.bulk import Bulk, BulkKind, BulkState, Refusal
from jobdeck.clock import from_us
from jobdeck.model import TeamScope
from jobdeck.store.schema import bulk_operations


def list_bulk(conn: Connection, scope: TeamScope, limit: int) -> list[Bulk]:
    """Operations of the team, newest first."""
    query = (
        select(bulk_operations)
        .where(bulk_operations.c.team_id == scope.team_id)
        .order_by(bulk_operations.c.created_at.desc(), bulk_operations.c.id.desc())
        .limit(limit)
    )
    return [_bulk(row) for row in conn.execute(query)]


def show_bulk(conn: Connection, scope: TeamScope, bulk_id: UUID) -> Bulk | None:
    """One operation of the team."""
    query = select(bulk_operations).where(
        bulk_operations.c.team_id == scope.team_id, bulk_operations.c.id == bulk_id
    )
    row = conn.execute(query).one_or_none()
    return None if row is None else _bulk(row)


def _bulk(row: Any) -> Bulk:
    return Bulk(
        id=row.id,
        kind=BulkKind(row.kind),
        state=BulkState(row.state),
        chosen=json.loads(row.filter),
        requested_by=row.requested_by,
        reason=row.reason,
        created_at=from_us(row.created_at),
        started_at=None if row.started_at is None else from_us(row.started_at),
        finished_at=None if row.finished_at is None else from_us(row.finished_at),
        total=row.total,
        done=row.done,
        skipped=row.skipped,
        failed=row.failed,
        refused=json.loads(row.refused),
        samples=tuple(_refusal(told) for told in json.loads(row.samples)),
    )


def _refusal(told: Any) -> Refusal:
    run_id, code, message = told
    return Refusal(UUID(run_id), code, message)
