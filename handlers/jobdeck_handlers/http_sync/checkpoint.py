"""How far a run has come, kept in the target itself and moved in the transaction that stores a page.

That makes "no row twice, none left out" one fact instead of two. The fence of the run guards it: whoever has taken
the run over has raised the fence here, and from then on an earlier worker's transaction finds no row to update.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    MetaData,
    Row,
    Table,
    Text,
    func,
    inspect,
    select,
)

from jobdeck import StaleLease
from jobdeck_handlers.http_sync import staging
from jobdeck_handlers.http_sync.paging import Position, first
from jobdeck_handlers.http_sync.params import SyncParams
from jobdeck_handlers.http_sync.records import Mark

_KEPT: Final = 7 * 86_400 * 1_000_000
"""Microseconds after which the checkpoint of another run is cleared away; nobody retries a run after a week."""
# Any number, the same in every version: two workers must not make the tables at the same moment.
_ADVISORY_LOCK: Final = 0x6A6F6264_65636B01

# Of `State`. Another number makes a later version begin anew instead of misreading what an older one stored.
_FORMAT: Final = 1

_metadata: Final = MetaData()
_syncs: Final = Table(
    "_jobdeck_sync",
    _metadata,
    Column("run_id", Text, primary_key=True),
    Column("table_name", Text, nullable=False),
    Column("params", Text, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
_marks: Final = Table(
    "_jobdeck_sync_since",
    _metadata,
    Column("table_name", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("newest", Text, nullable=False),
)


@dataclass(frozen=True, slots=True)
class State:
    """How far a sync has come: totals over all attempts of its run."""

    position: Position
    since: Mark | None = None
    """The mark from which this run asks for records; the same for all its pages and attempts."""
    newest: Mark | None = None
    synced: int = 0
    skipped: int = 0
    failed: int = 0
    pages: int = 0
    stated_total: int | None = None
    done: bool = False

    @property
    def processed(self) -> int:
        return self.synced + self.skipped + self.failed

    @property
    def total(self) -> int | None:
        """How many records there are, as far as the source says; never less than were seen."""
        if self.stated_total is None:
            return self.processed if self.done else None
        return max(self.stated_total, self.processed)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A state as one worker holds it: `fence` says who, `seq` counts the steps."""

    run_id: str
    fence: int
    seq: int
    state: State


def take_over(conn: Connection, run_id: UUID, fence: int, params: SyncParams) -> Checkpoint:
    """Begin or go on with the sync of a run, as the holder of `fence`. Raises StaleLease where a later one has it."""
    if conn.dialect.name == "postgresql":
        conn.execute(select(func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
    _metadata.create_all(conn)
    found = _locked(conn, run_id.hex)
    if found is None:
        _clear_old(conn)
        return _start(conn, run_id.hex, fence, params)
    if found.fence > fence:
        raise StaleLease
    if found.params != _stamp(params):
        # The run was changed between two attempts: what was done under the old params is no part of it.
        staging.drop(conn, run_id.hex)
        conn.execute(_syncs.delete().where(_syncs.c.run_id == run_id.hex))
        return _start(conn, run_id.hex, fence, params)
    conn.execute(_syncs.update().where(_syncs.c.run_id == run_id.hex).values(fence=fence, updated_at=_now()))
    return Checkpoint(run_id.hex, fence, found.seq, State(**json.loads(found.state)))


def step(conn: Connection, checkpoint: Checkpoint) -> Checkpoint:
    """Begin the next step. Raises StaleLease where the run, or this step of it, is no longer the caller's.

    Comes first in a transaction: until that ends nobody can take the run over, and who has done so is noticed
    before anything is written.
    """
    mine = (
        (_syncs.c.run_id == checkpoint.run_id)
        & (_syncs.c.fence == checkpoint.fence)
        & (_syncs.c.seq == checkpoint.seq)
    )
    begun = replace(checkpoint, seq=checkpoint.seq + 1)
    if conn.execute(_syncs.update().where(mine).values(seq=begun.seq, updated_at=_now())).rowcount != 1:
        raise StaleLease
    return begun


def save(conn: Connection, begun: Checkpoint, state: State) -> Checkpoint:
    """Store what the step that has begun in this transaction has led to."""
    mine = _syncs.c.run_id == begun.run_id
    conn.execute(_syncs.update().where(mine).values(state=json.dumps(asdict(state))))
    return replace(begun, state=state)


def publish(conn: Connection, params: SyncParams, newest: Mark) -> None:
    """Keep the newest mark for the next sync of the same source into the same table."""
    same = (_marks.c.table_name == params.table) & (_marks.c.source == params.source_id)
    conn.execute(_marks.delete().where(same))
    conn.execute(
        _marks.insert().values(table_name=params.table, source=params.source_id, newest=json.dumps(newest))
    )


def _start(conn: Connection, run_id: str, fence: int, params: SyncParams) -> Checkpoint:
    since = _mark(conn, params)
    state = State(first(params), since=since, newest=since)
    conn.execute(
        _syncs.insert().values(
            run_id=run_id,
            table_name=params.table,
            params=_stamp(params),
            fence=fence,
            seq=0,
            state=json.dumps(asdict(state)),
            updated_at=_now(),
        )
    )
    return Checkpoint(run_id, fence, 0, state)


def _stamp(params: SyncParams) -> str:
    return f"{_FORMAT}:{params.digest}"


def _mark(conn: Connection, params: SyncParams) -> Mark | None:
    # Without the table the records up to the mark are gone, and all of them are wanted again.
    if params.since_param is None or not inspect(conn).has_table(params.table):
        return None
    same = (_marks.c.table_name == params.table) & (_marks.c.source == params.source_id)
    stored = conn.execute(select(_marks.c.newest).where(same)).scalar_one_or_none()
    mark: Mark | None = None if stored is None else json.loads(stored)
    return mark


def _locked(conn: Connection, run_id: str) -> Row[Any] | None:
    return conn.execute(select(_syncs).where(_syncs.c.run_id == run_id).with_for_update()).one_or_none()


def _clear_old(conn: Connection) -> None:
    old = (
        select(_syncs.c.run_id).where(_syncs.c.updated_at < _now() - _KEPT).with_for_update(skip_locked=True)
    )
    for run_id in conn.scalars(old).all():
        staging.drop(conn, run_id)
        conn.execute(_syncs.delete().where(_syncs.c.run_id == run_id))


def _now() -> int:
    return time.time_ns() // 1000
