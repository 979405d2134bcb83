"""A new run takes the place of others under its key: those that wait end, and it follows the one that runs."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select

from jobdeck.ids import show_id
from jobdeck.model import NewRun
from jobdeck.states import TERMINAL, WAITING, OnConflict, Status
from jobdeck.store.changes import request_stop
from jobdeck.store.schema import runs
from jobdeck.store.transaction import Tx
from jobdeck.store.waiting import FACTS, End, Turn, Wish, end_waiting


class Succession(NamedTuple):
    """What became of those that held the key."""

    ended: list[UUID]
    """Active no more."""
    wishes: list[Wish]
    """Those that run, whose end the new one has to wait for."""


def make_way(tx: Tx, item: NewRun, holders: Collection[UUID], mode: OnConflict | None) -> Succession:
    """End the waiting ones for the new run; with `replace` ask the running one to stop."""
    query = select(*FACTS, runs.c.cancel_requested_at).where(
        runs.c.team_id == item.team_id, runs.c.id.in_(holders)
    )
    rows = tx.conn.execute(tx.differences.locked(query, by=runs.c.id)).all()
    reason = f"superseded by {show_id('run', item.id)}"
    waiting = [row for row in rows if Status(row.status) in WAITING]
    end = End(Status.CANCELLED, "superseded", item.triggered_by, reason, asked=True)
    end_waiting(tx, [(row, end) for row in waiting])
    running = [row for row in rows if row.status == Status.RUNNING]
    if mode is OnConflict.REPLACE:
        gone = [
            row
            for row in running
            if row.cancel_requested_at is None and request_stop(tx, row.id, item.triggered_by, reason)
        ]
        running, waiting = [row for row in running if row not in gone], [*waiting, *gone]
    ended = [row.id for row in rows if Status(row.status) in TERMINAL]
    return Succession(
        [*(row.id for row in waiting), *ended], [Wish(row.id, Turn.KEY, True) for row in running]
    )
