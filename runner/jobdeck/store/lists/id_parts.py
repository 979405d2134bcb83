"""Finding a run by part of its id, as people type it."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from sqlalchemy import Connection, select, true

from jobdeck.errors import ValidationError
from jobdeck.ids import prefix_range, tail_bits
from jobdeck.limits import PAGE_LOOKS
from jobdeck.model import TeamScope
from jobdeck.store.columns import TAIL_BYTES, id_tail
from jobdeck.store.schema import runs

PARTS_MAX: Final = 20
"""As many ids are enough to say that a part of an id is not unique."""


def ids_like(conn: Connection, scope: TeamScope, part: str) -> list[UUID]:
    """Ids of the team whose shown form begins or ends with `part`; at most a few, for telling them apart.

    Raises ValidationError for a beginning that too many runs share to look at them all.
    """
    ending = _ending_with(conn, scope, part)
    return sorted(ending | _beginning_with(conn, scope, part))


def _ending_with(conn: Connection, scope: TeamScope, part: str) -> set[UUID]:
    value, bits = tail_bits(part)
    size = 8 * TAIL_BYTES
    known = min(bits, size)
    low = value & (1 << known) - 1
    tails = [(high << known | low).to_bytes(TAIL_BYTES, "big") for high in range(1 << size - known)]
    # Not as a plain condition: without statistics SQLite would look through the team for them.
    mine = (runs.c.team_id == scope.team_id).is_(true())
    query = select(runs.c.id).where(mine, id_tail(runs.c.id).in_(tails))
    mask = (1 << bits) - 1
    return {run_id for run_id in conn.execute(query).scalars() if run_id.int & mask == value}


def _beginning_with(conn: Connection, scope: TeamScope, part: str) -> set[UUID]:
    low, high = prefix_range(part)
    having = select(runs.c.id, runs.c.team_id).where(runs.c.id.between(low, high)).order_by(runs.c.id)
    stop = conn.execute(having.offset(PAGE_LOOKS).limit(1)).scalar()
    looked_at = having.limit(PAGE_LOOKS).subquery()
    query = select(looked_at.c.id).where(looked_at.c.team_id == scope.team_id).limit(PARTS_MAX)
    found = set(conn.execute(query).scalars())
    if stop is not None and len(found) < 2:
        raise ValidationError(f"too many ids begin with {part!r}; give more of it, or its end", field="id")
    return found
