"""How many runs each team has in each status: rows that every transaction keeps, so that to count costs nothing.

Writers that commit at the same time would wait for each other at one row, so a team has several rows for a status,
and each transaction takes one of them; the number is their sum.
"""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from jobdeck.model import TeamScope
from jobdeck.store.given import Rows
from jobdeck.store.schema import run_counts
from jobdeck.store.transaction import Tx

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


def counts(conn: Connection, scope: TeamScope) -> dict[str, int]:
    """How many runs of the team have each stored status; those of system types are left out."""
    query = (
        select(run_counts.c.status, func.sum(run_counts.c.runs))
        .where(run_counts.c.team_id == scope.team_id)
        .group_by(run_counts.c.status)
    )
    return {status: int(runs) for status, runs in conn.execute(query) if runs}
