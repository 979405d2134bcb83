"""How often runs have begun under a rate limit: every beginning of the longest window there can be is kept.

So a limit is kept in any stretch of time of its length, not only in fixed ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, delete, func, select

from jobdeck.limits import RATE_WINDOW_MAX
from jobdeck.store.control.gates import Rate
from jobdeck.store.schema import rate_uses, rates
from jobdeck.store.transaction import Tx

_KEPT_US: Final = RATE_WINDOW_MAX * 1_000_000
TeamRate = tuple[UUID, Rate]
Name = tuple[UUID, str]


def lock_shared(tx: Tx, wanted: Iterable[TeamRate]) -> set[Name]:
    """Lock those of these rates that several jobs share; those that somebody else has locked.

    The others stand behind the lock of their gate.
    """
    names = {(team_id, rate.name) for team_id, rate in wanted if rate.is_shared}
    busy: set[Name] = set()
    for team_id, name in sorted(names):
        query = select(rates.c.name).where(rates.c.team_id == team_id, rates.c.name == name)
        if tx.conn.execute(tx.differences.unlocked_only(query, rates)).first() is None:
            busy.add((team_id, name))
    return busy


def left(conn: Connection, now: int, team_id: UUID, rate: Rate) -> int:
    """How many runs may begin now."""
    query = select(func.coalesce(func.sum(rate_uses.c.uses), 0)).where(*_in_window(now, team_id, rate))
    return max(rate.most - int(conn.execute(query).scalar_one()), 0)


def free_at(conn: Connection, now: int, team_id: UUID, rate: Rate) -> int:
    """When the next run may begin, in microseconds; `now` where one may at once."""
    query = (
        select(rate_uses.c.at, rate_uses.c.uses)
        .where(*_in_window(now, team_id, rate))
        .order_by(rate_uses.c.at.desc())
    )
    used = 0
    for row in conn.execute(query):
        used += row.uses
        if used >= rate.most:
            return max(int(row.at) + rate.window_us, now)
    return now


def _in_window(now: int, team_id: UUID, rate: Rate) -> Sequence[Any]:
    # What another worker has told of a moment later than this transaction's own counts as well.
    return (
        rate_uses.c.team_id == team_id,
        rate_uses.c.name == rate.name,
        rate_uses.c.at > now - rate.window_us,
    )


def tell_uses(tx: Tx, used: Mapping[Name, int]) -> None:
    """So many runs begin now; what is older than any window is forgotten."""
    for (team_id, name), uses in sorted(used.items()):
        of_rate = rate_uses.c.team_id == team_id, rate_uses.c.name == name
        tx.conn.execute(delete(rate_uses).where(*of_rate, rate_uses.c.at <= tx.now - _KEPT_US))
        row = {"team_id": team_id, "name": name, "at": tx.now, "uses": uses}
        told = tx.differences.insert(rate_uses).values(row)
        added = rate_uses.c.uses + told.excluded.uses
        tx.conn.execute(
            told.on_conflict_do_update(index_elements=["team_id", "name", "at"], set_={"uses": added})
        )
