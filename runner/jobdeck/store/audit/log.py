"""Reading the audit."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, or_, select

from jobdeck.audit import AuditEntry, AuditFilter, AuditOutcome
from jobdeck.clock import from_us, to_us
from jobdeck.ids import show_id
from jobdeck.model import TeamScope
from jobdeck.store.schema import audit


def list_acts(conn: Connection, scope: TeamScope, chosen: AuditFilter, limit: int) -> list[AuditEntry]:
    """Acts in the team, newest first."""
    query = select(audit).where(audit.c.team_id == scope.team_id)
    if chosen.actor is not None:
        query = query.where(audit.c.actor == chosen.actor)
    if chosen.action is not None:
        inside = audit.c.action.startswith(f"{chosen.action}.", autoescape=True)
        query = query.where(or_(audit.c.action == chosen.action, inside))
    if chosen.outcome is not None:
        query = query.where(audit.c.outcome == chosen.outcome)
    if chosen.since is not None:
        query = query.where(audit.c.at >= to_us(chosen.since))
    newest = (audit.c.at.desc(), audit.c.batch.desc(), audit.c.number.desc())
    return [_entry(row) for row in conn.execute(query.order_by(*newest).limit(limit)).mappings()]


def _entry(row: Any) -> AuditEntry:
    return AuditEntry(
        id=f"{show_id('aud', row['batch'])}.{row['number']}",
        at=from_us(row["at"]),
        actor=row["actor"],
        session_user=row["login"],
        action=row["action"],
        outcome=AuditOutcome(row["outcome"]),
        code=row["code"],
        count=row["count"],
        targets=tuple(json.loads(row["targets"])),
        reason=row["reason"],
        before=_value(row["before"]),
        after=_value(row["after"]),
    )


def _value(text: str | None) -> Any:
    return None if text is None else json.loads(text)
