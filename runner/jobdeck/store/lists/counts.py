"""How many runs each team has in each status: rows that every transaction keeps, so that to count costs nothing.

Writers that commit at the same time would wait for each other at one row, so a team has several rows for a status,
and each transaction takes one of them; the number is their sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, func, select

from jobdeck.errors import JobdeckError
from jobdeck.model import TeamScope
from jobdeck.store.given import Rows
from jobdeck.store.schema import ORDINARY, run_counts, runs
from jobdeck.store.transaction import Rank, Tx, verb

_changes = Rows(
    run_counts,
    ("team_id", "status", "slot", "runs"),
    keys=("team_id", "status", "slot"),
    adds="runs",
    or_new=True,
)


def write_counts(tx: Tx) -> None:
    """Store what a transaction has counted. Last of all: nobody waits for these rows longer than for a commit."""
    slot = tx.differences.count_slot()
    moved = sorted((team_id, status, slot, runs) for (team_id, status), runs in tx.moved().items() if runs)
    _changes.write(tx, moved)


class Drift(NamedTuple):
    """A counter that says something else than the rows it counts."""

    team_id: UUID
    status: str
    missing: int
    """By how much it is too low."""


def drift(conn: Connection, team_id: UUID, status: str) -> Drift | None:
    """How far one counter is off, rows and counter read at one moment; None where it is right."""
    mine = (run_counts.c.team_id == team_id, run_counts.c.status == status)
    told = select(func.coalesce(func.sum(run_counts.c.runs), 0)).where(*mine).scalar_subquery()
    rows = select(func.count()).where(runs.c.team_id == team_id, runs.c.status == status, ORDINARY)
    missing = conn.execute(select(rows.scalar_subquery() - told)).scalar_one()
    return Drift(team_id, status, int(missing)) if missing else None


@verb(Rank.CHANGE)
def mend(tx: Tx, items: Sequence[Drift]) -> Sequence[JobdeckError | None]:
    """Put counters right. What has changed meanwhile has been counted, so the difference stays what it was."""
    slot = tx.differences.count_slot()
    _changes.write(tx, [(item.team_id, item.status, slot, item.missing) for item in items])
    return [None] * len(items)


def counts(conn: Connection, scope: TeamScope) -> dict[str, int]:
    """How many runs of the team have each stored status; those of system types are left out."""
    query = (
        select(run_counts.c.status, func.sum(run_counts.c.runs))
        .where(run_counts.c.team_id == scope.team_id)
        .group_by(run_counts.c.status)
    )
    return {status: int(runs) for status, runs in conn.execute(query) if runs}
