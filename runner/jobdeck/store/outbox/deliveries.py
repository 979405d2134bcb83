"""Notifications as people look at them."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, select

from jobdeck.clock import from_us
from jobdeck.ids import PART_MIN, show_id
from jobdeck.model import TeamScope
from jobdeck.notifiers import Delivery, DeliveryState
from jobdeck.store.schema import outbox

_NARROW: Final = tuple(column for column in outbox.c if column.name != "body")
# A part of an id is looked for among the latest: whoever types one has just seen it in a list.
_LOOKS: Final = 10_000


def list_deliveries(
    conn: Connection,
    _now: int,
    scope: TeamScope,
    *,
    run_id: UUID | None = None,
    state: DeliveryState | None = None,
    limit: int,
) -> list[Delivery]:
    """Deliveries of the team, newest first."""
    query = select(*_NARROW).where(outbox.c.team_id == scope.team_id)
    if run_id is not None:
        query = query.where(outbox.c.run_id == run_id)
    if state is not None:
        query = query.where(outbox.c.state == state)
    query = query.order_by(outbox.c.created_at.desc(), outbox.c.id.desc()).limit(limit)
    return [_delivery(row) for row in conn.execute(query)]


def find_delivery(conn: Connection, _now: int, scope: TeamScope, delivery_id: UUID) -> Delivery | None:
    """One of the team, with what is sent; None where there is none."""
    query = select(outbox).where(outbox.c.id == delivery_id, outbox.c.team_id == scope.team_id)
    row = conn.execute(query).one_or_none()
    return None if row is None else _delivery(row, row.body)


def deliveries_like(conn: Connection, _now: int, scope: TeamScope, part: str) -> list[UUID]:
    """Ids among the latest of the team whose shown form begins or ends with `part`, of 4 characters or more."""
    assert len(part) >= PART_MIN  # noqa: S101  as `parse_part` gives them
    query = (
        select(outbox.c.id)
        .where(outbox.c.team_id == scope.team_id)
        .order_by(outbox.c.created_at.desc(), outbox.c.id.desc())
        .limit(_LOOKS)
    )
    shown = ((each, show_id("msg", each).removeprefix("msg_")) for each in conn.execute(query).scalars())
    return [each for each, text in shown if text.startswith(part) or text.endswith(part)]


def _delivery(row: Any, body: str | None = None) -> Delivery:
    return Delivery(
        id=row.id,
        run_id=row.run_id,
        event=row.event,
        channel=row.channel,
        endpoint=row.endpoint,
        state=DeliveryState(row.state),
        tries=row.tries,
        tries_max=row.tries_max,
        next_at=from_us(row.next_at),
        response_code=row.response_code,
        last_error=row.last_error,
        created_at=from_us(row.created_at),
        delivered_at=None if row.delivered_at is None else from_us(row.delivered_at),
        body=body,
    )
