"""Whether anything is limited or paused: where not, which is usual, a claim does without all of this package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from weakref import WeakKeyDictionary

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    FromClause,
    exists,
    literal,
    literal_column,
    or_,
    select,
)

from jobdeck.store.differences import Differences
from jobdeck.store.schema import GATED, gates, pauses, queues, runs
from jobdeck.store.transaction import Tx

_LOOK_AGAIN_US: Final = 1_000_000
"""For so long at most, runs that something new holds back wait although they might begin. None begins too early."""

_known: WeakKeyDictionary[Engine, tuple[int, bool]] = WeakKeyDictionary()


def is_controlled(tx: Tx) -> bool:
    """Whether to choose with care. Looked up once in a second; `uncontrolled` makes up for what is not known yet."""
    engine = tx.conn.engine
    read_at, found = _known.get(engine, (-_LOOK_AGAIN_US, False))
    if not 0 <= tx.now - read_at < _LOOK_AGAIN_US:
        found = any_controlled(tx.conn)
        _known[engine] = (tx.now, found)
    return found


def needs_upkeep(conn: Connection, now: int) -> bool:
    """Whether runs wait for places under keys, or pauses are over that are still stored."""
    over = exists(select(pauses.c.id).where(pauses.c.until <= now))
    return bool(
        conn.execute(select(literal(1)).where(or_(exists(select(runs.c.id).where(GATED)), over))).first()
    )


def forget(tx: Tx) -> None:
    """Something has been limited or paused: look again."""
    _known.pop(tx.conn.engine, None)


def any_controlled(conn: Connection) -> bool:
    """Whether there are gates, pauses or limited queues."""
    limited = queues.c.max_concurrency.is_not(None)
    any_of = or_(
        exists(select(gates.c.id)), exists(select(pauses.c.id)), exists(select(queues.c.name).where(limited))
    )
    return bool(conn.execute(select(literal(1)).where(any_of)).first())


def uncontrolled(_: Differences, head: FromClause) -> Sequence[ColumnElement[bool]]:
    """The conditions under which a lane is taken from without a look at limits: exact, whatever is known."""
    return (
        head.c.gate == literal_column("0"),
        ~exists(select(pauses.c.id)),
        ~exists(select(queues.c.name).where(queues.c.max_concurrency.is_not(None))),
    )
