"""The history of a run: what was done to it, by whom, in order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import insert

from jobdeck.store.schema import run_events
from jobdeck.store.transaction import Tx


class Event(NamedTuple):
    """One fact. `data` holds what the kind has to say more; empty values are left out."""

    run_id: UUID
    kind: str
    actor: str
    data: dict[str, Any] = {}  # noqa: RUF012  never changed


def record(tx: Tx, events: Sequence[Event]) -> None:
    """Store events, at the time of the transaction."""
    if events:
        tx.conn.execute(insert(run_events), [_row(event, tx.now) for event in events])


def _row(event: Event, now: int) -> dict[str, Any]:
    told = {key: value for key, value in event.data.items() if value is not None}
    data = json.dumps(told, ensure_ascii=False) if told else None
    return {
        "run_id": event.run_id,
        "at": now,
        "kind": event.kind,
        "actor": event.actor,
        "fence": 0,
        "data": data,
    }
