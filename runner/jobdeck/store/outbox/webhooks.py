"""Secrets of webhooks, and endpoints that have asked for nothing more.

A secret belongs to a job, or to the team for the callbacks of its runs. It is read only to sign with it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, delete, insert, select, update

from jobdeck import limits
from jobdeck.clock import from_us
from jobdeck.errors import JobdeckError, NotFound
from jobdeck.ids import show_id
from jobdeck.model import TeamScope
from jobdeck.people import Permission
from jobdeck.store.members import lacks
from jobdeck.store.schema import disabled_webhooks, jobs, webhook_secrets
from jobdeck.store.transaction import Rank, Tx, verb


def secrets_of(conn: Connection, now: int, owner_ids: Collection[UUID]) -> dict[UUID, tuple[str, ...]]:
    """What each of them signs with now, the newest secret first; owners without one are left out."""
    if not owner_ids:
        return {}
    query = select(webhook_secrets).where(webhook_secrets.c.owner_id.in_(owner_ids))
    return {row.owner_id: _valid(row, now) for row in conn.execute(query)}


def _valid(row: Any, now: int) -> tuple[str, ...]:
    overlaps = row.previous is not None and row.previous_until is not None and now < row.previous_until
    return (row.secret, row.previous) if overlaps else (row.secret,)


class Rotate(NamedTuple):
    """A new secret for a job of the team, or (`job_id` None) for the callbacks of its runs."""

    team_id: UUID
    job_id: UUID | None
    secret: str
    actor: str
    drop_old: bool = False
    """The one before must not sign any more: somebody has seen it."""


@verb(Rank.CHANGE)
def rotate(tx: Tx, items: Sequence[Rotate]) -> Sequence[datetime | JobdeckError | None]:
    """Put new secrets in place; until when the old one signs as well, None where there is no old one.

    Forbidden, NotFound.
    """
    return [_rotate(tx, item) for item in items]


def _rotate(tx: Tx, item: Rotate) -> datetime | JobdeckError | None:
    if refused := lacks(tx, item.team_id, item.actor, Permission.ADMIN):
        return refused
    owner = item.team_id
    if item.job_id is not None:
        query = select(jobs.c.id).where(jobs.c.id == item.job_id, jobs.c.team_id == item.team_id)
        if tx.conn.execute(query).one_or_none() is None:
            return NotFound(f"no job {show_id('job', item.job_id)} in this team")
        owner = item.job_id
    old = select(webhook_secrets.c.secret).where(webhook_secrets.c.owner_id == owner)
    before = tx.conn.execute(tx.differences.locked(old, by=webhook_secrets.c.owner_id)).scalar()
    keeps = before is not None and not item.drop_old
    until = tx.now + limits.SECRET_OVERLAP * 1_000_000 if keeps else None
    values = {
        "secret": item.secret,
        "previous": before if keeps else None,
        "previous_until": until,
        "created_at": tx.now,
        "created_by": item.actor,
    }
    if before is None:
        tx.conn.execute(insert(webhook_secrets), {"owner_id": owner, "team_id": item.team_id, **values})
    else:
        tx.conn.execute(update(webhook_secrets).where(webhook_secrets.c.owner_id == owner).values(values))
    # Never the secrets themselves, nor anything made of them.
    target = "callbacks" if item.job_id is None else show_id("job", item.job_id)
    tx.tell(item, target, None, {"old_signs_until": until, "drop_old": item.drop_old})
    return None if until is None else from_us(until)


class EnableEndpoint(NamedTuple):
    """Somebody has mended an endpoint of the team."""

    team_id: UUID
    id: UUID


@verb(Rank.CHANGE)
def enable_endpoint(tx: Tx, items: Sequence[EnableEndpoint]) -> Sequence[UUID | JobdeckError]:
    """Let notifications go there again; those that were closed meanwhile can be sent again. NotFound."""
    results: list[UUID | JobdeckError] = []
    for item in items:
        gone = delete(disabled_webhooks).where(
            disabled_webhooks.c.id == item.id, disabled_webhooks.c.team_id == item.team_id
        )
        shown = show_id("hook", item.id)
        if tx.conn.execute(gone).rowcount:
            tx.tell(item, shown, {"enabled": False}, {"enabled": True})
            results.append(item.id)
        else:
            results.append(NotFound(f"no disabled endpoint {shown}; see: jobdeck webhooks list"))
    return results


@dataclass(frozen=True, slots=True)
class WebhookSecret:
    """That there is a secret; never which."""

    job: str | None
    """Slug of the job it signs for; None: the callbacks of the team's runs."""
    created_at: datetime
    created_by: str
    previous_until: datetime | None
    """Until then the one before signs as well."""


@dataclass(frozen=True, slots=True)
class DisabledEndpoint:
    """A URL that gets nothing any more."""

    id: UUID
    job: str | None
    url: str
    disabled_at: datetime
    reason: str

    @property
    def shown_id(self) -> str:
        return show_id("hook", self.id)


def list_secrets(conn: Connection, now: int, scope: TeamScope) -> list[WebhookSecret]:
    """All of the team, callbacks first."""
    query = (
        select(webhook_secrets, jobs.c.slug)
        .select_from(webhook_secrets.outerjoin(jobs, jobs.c.id == webhook_secrets.c.owner_id))
        .where(webhook_secrets.c.team_id == scope.team_id)
        .order_by(jobs.c.slug.is_not(None), jobs.c.slug)
    )
    found = []
    for row in conn.execute(query):
        ends = from_us(row.previous_until) if len(_valid(row, now)) > 1 else None
        found.append(WebhookSecret(row.slug, from_us(row.created_at), row.created_by, ends))
    return found


def list_disabled(conn: Connection, _now: int, scope: TeamScope) -> list[DisabledEndpoint]:
    """All of the team, the latest first."""
    query = (
        select(disabled_webhooks, jobs.c.slug)
        .select_from(disabled_webhooks.outerjoin(jobs, jobs.c.id == disabled_webhooks.c.owner_id))
        .where(disabled_webhooks.c.team_id == scope.team_id)
        .order_by(disabled_webhooks.c.disabled_at.desc(), disabled_webhooks.c.id)
    )
    return [
        DisabledEndpoint(row.id, row.slug, row.url, from_us(row.disabled_at), row.reason)
        for row in conn.execute(query)
    ]
