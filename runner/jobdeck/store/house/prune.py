"""Drop ended runs that have been kept long enough, with everything that hangs on them, in small transactions.

Runs are looked at from the oldest on, by the indexes that lists use: by when they were made, which is never after
their end. None goes that is active, pinned or still to be told of, or that belongs together with one that is; nor one
that still stands for its idempotency key.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Column, ColumnElement, Connection, Select, and_, delete, literal, select, tuple_

from jobdeck.errors import JobdeckError
from jobdeck.limits import IDEMPOTENCY_WINDOW, LOG_RUN_BYTES, SYSTEM_TYPES
from jobdeck.states import TERMINAL, Status
from jobdeck.store.differences import Differences
from jobdeck.store.house.families import held_by_family
from jobdeck.store.pieces import pieces
from jobdeck.store.schema import (
    LISTED,
    ORDINARY,
    acks,
    attempts,
    bulk_operations,
    bulk_steps,
    checkpoints,
    job_types,
    outbox,
    run_events,
    run_logs,
    run_parents,
    run_waits,
    runs,
    teams,
)
from jobdeck.store.transaction import Hint, Rank, Tx, verb

HANGING: Final[tuple[Column[Any], ...]] = (
    attempts.c.run_id,
    run_events.c.run_id,
    run_logs.c.run_id,
    checkpoints.c.run_id,
    run_waits.c.run_id,
    run_parents.c.run_id,
    run_parents.c.parent_run_id,
    acks.c.run_id,
    outbox.c.run_id,
)
"""What goes with a run: the columns that name it. A new table that hangs on runs is added here."""
APART: Final = frozenset({"leases", "run_keys"})
"""Tables that name runs and go by themselves: leases end with their attempt, keys when they have run out."""

BATCH: Final = 500
"""Runs one transaction looks at and drops at most: some ten milliseconds, in which nobody waits for long."""
_LOG_BYTES: Final = LOG_RUN_BYTES
"""Of log that one transaction drops, besides that of its first run."""
Key = tuple[int, UUID]


class Lane(NamedTuple):
    """Ended runs of a team with one status; of one system type, where there is one, which other lanes leave out."""

    team_id: UUID
    status: Status
    job_type: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """The next runs of a lane."""

    lane: Lane
    before_us: int
    """Those that ended before this time may go."""
    after: Key | None = None
    """Where the last batch ended."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a batch came to."""

    ids: tuple[UUID, ...]
    """Those that went, or would go."""
    kept: int
    """Runs that are old enough and stay."""
    oldest_us: int | None
    """The end of the oldest one that went."""
    last: Key | None
    """Where the next batch goes on; None where there is none."""


def lanes(conn: Connection, statuses: Collection[Status] = TERMINAL) -> list[Lane]:
    """All places where ended runs can be."""
    team_ids = list(conn.execute(select(teams.c.id).order_by(teams.c.id)).scalars())
    own = select(job_types.c.name).where(job_types.c.name.startswith(SYSTEM_TYPES, autoescape=True))
    kinds = [None, *conn.execute(own.order_by(job_types.c.name)).scalars()]
    return [Lane(team, status, kind) for team in team_ids for status in sorted(statuses) for kind in kinds]


def look(conn: Connection, differences: Differences, now: int, batch: Batch) -> Pruned:
    """What `prune` would drop of a batch."""
    rows, last = _cut(conn.execute(_query(differences, batch)).all())
    old = [row for row in rows if row.finished_at is not None and row.finished_at < batch.before_us]
    free = [row for row in old if not row.pinned and not _stands_for_key(row, now)]
    held = held_by_family(conn, [row.id for row in free])
    going = [row for row in free if row.id not in held]
    oldest = min((row.finished_at for row in going), default=None)
    return Pruned(tuple(row.id for row in going), len(old) - len(going), oldest, last)


def _query(differences: Differences, batch: Batch) -> Select[Any]:
    names = ("id", "created_at", "finished_at", "pinned", "idempotency_key", "dedupe_until", "log_bytes")
    place = (runs.c.created_at, runs.c.id)
    query = select(*(runs.c[name] for name in names)).where(
        *_along(differences, batch.lane), runs.c.created_at < batch.before_us
    )
    if batch.after is not None:
        made, run_id = batch.after
        query = query.where(tuple_(*place) > tuple_(*_bound(made, run_id)))
    return query.order_by(*place).limit(BATCH)


def _bound(made: int, run_id: UUID) -> tuple[Any, Any]:
    return literal(made, runs.c.created_at.type), literal(run_id, runs.c.id.type)


def _along(differences: Differences, lane: Lane) -> list[ColumnElement[bool]]:
    """The conditions by which an index of lists leads along the lane."""
    of_team, of_status = runs.c.team_id == lane.team_id, runs.c.status == lane.status
    if lane.job_type is None:
        return [of_team, ORDINARY, differences.few(of_status)]
    # Few enough to be looked at whatever their status.
    return [of_team, LISTED, differences.few(runs.c.job_type == lane.job_type), of_status]


def _cut(rows: Sequence[Any]) -> tuple[Sequence[Any], Key | None]:
    """As many of the rows as fit into one transaction, and where the next one goes on."""
    size = 0
    for count, row in enumerate(rows):
        size += row.log_bytes
        if count and size > _LOG_BYTES:
            return rows[:count], (rows[count - 1].created_at, rows[count - 1].id)
    return rows, (rows[-1].created_at, rows[-1].id) if len(rows) == BATCH else None


def _stands_for_key(row: Any, now: int) -> bool:
    """Whether a new run with the key of this one would be answered with this one."""
    if row.dedupe_until is not None and row.dedupe_until > now:
        return True
    return row.idempotency_key is not None and row.created_at + int(IDEMPOTENCY_WINDOW * 1_000_000) > now


@verb(Rank.CHANGE)
def prune(tx: Tx, items: Sequence[Batch]) -> Sequence[Pruned | JobdeckError]:
    """Drop what may go of each batch. Runs that somebody else has locked are left for another time."""
    return [_prune(tx, item) for item in items]


def _prune(tx: Tx, batch: Batch) -> Pruned:
    found = look(tx.conn, tx.differences, tx.now, batch)
    gone: list[UUID] = []
    for some in pieces(found.ids):
        # Somebody may have pinned or retried one since it was looked at.
        still = and_(runs.c.status == batch.lane.status, ~runs.c.pinned)
        query = select(runs.c.id, runs.c.job_type).where(runs.c.id.in_(some), still)
        rows = tx.conn.execute(tx.differences.unlocked_only(query.order_by(runs.c.id), runs)).all()
        drop_runs(tx.conn, [row.id for row in rows])
        for row in rows:
            tx.count(batch.lane.team_id, row.job_type, batch.lane.status, None)
        gone += [row.id for row in rows]
    if gone:
        tx.hint(Hint.CHANGE)
    return Pruned(tuple(gone), found.kept + len(found.ids) - len(gone), found.oldest_us, found.last)


def drop_runs(conn: Connection, ids: Sequence[UUID]) -> None:
    """Delete these runs, which are locked, and what hangs on them."""
    for column in HANGING:
        conn.execute(delete(column.table).where(column.in_(ids)))
    conn.execute(delete(runs).where(runs.c.id.in_(ids)))


@verb(Rank.CHANGE)
def prune_bulk(tx: Tx, items: Sequence[int]) -> Sequence[int]:
    """Forget acts on many runs that ended before a time, some at once; how many. What they did to the runs stays."""
    return [_prune_bulk(tx, before) for before in items]


def _prune_bulk(tx: Tx, before: int) -> int:
    # Those that go on have no end yet, and nothing begins again.
    old = select(bulk_operations.c.id).where(bulk_operations.c.finished_at < before)
    ids = list(tx.conn.execute(tx.differences.unlocked_only(old.limit(BATCH), bulk_operations)).scalars())
    for column in (bulk_steps.c.bulk_id, bulk_operations.c.id):
        tx.conn.execute(delete(column.table).where(column.in_(ids)))
    return len(ids)
