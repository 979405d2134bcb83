"""What only some runs have, read for those alone: a claim that brought it along would be slower for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, func, literal_column, or_, select

from jobdeck.store.schema import runs
from jobdeck.store.transaction import Tx


class RareFacts(NamedTuple):
    """Of a run that was made from a job or by another run, needed an approval or has a backoff of its own."""

    job_id: UUID | None = None
    job_version: int | None = None
    requires_approval: bool = False
    approved_hash: str | None = None
    """What was approved, where it had to be: see `jobdeck.approval`."""
    lineage_depth: int = 0
    backoff: str | None = None
    """JSON of its own backoff, where it has one."""


COMMON: Final = RareFacts()
_NONE: Final[ColumnElement[int]] = literal_column("0")
# Not by IS NOT NULL: among what an UPDATE of SQLite (3.40) returns that is true of every value.
HAS_RARE: Final[ColumnElement[Any]] = or_(
    func.coalesce(runs.c.job_version, _NONE) > _NONE,
    runs.c.requires_approval,
    runs.c.lineage_depth > _NONE,
    func.coalesce(func.length(runs.c.backoff), _NONE) > _NONE,
)


def rare_facts(tx: Tx, ids: Sequence[UUID]) -> dict[UUID, RareFacts]:
    """The rare facts of these runs, by id."""
    if not ids:
        return {}
    query = select(runs.c.id, *(runs.c[name] for name in RareFacts._fields)).where(runs.c.id.in_(ids))
    return {row.id: RareFacts(*row[1:]) for row in tx.conn.execute(query)}
