"""Turns under concurrency keys: who has no place is put aside, out of the lanes, until one of the same key has ended.

A run that is put aside is blocked like one that waits for another run, and `gated` says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, bindparam, literal, select, tuple_, update

from jobdeck.errors import JobdeckError
from jobdeck.states import Status
from jobdeck.store.columns import word
from jobdeck.store.control.budget import count_running
from jobdeck.store.control.gates import Lock, read_gates
from jobdeck.store.control.pauses import end_pauses
from jobdeck.store.schema import GATED, gates, runs
from jobdeck.store.transaction import Hint, Rank, Tx, verb

Key = tuple[int, str]
"""A gate and a concurrency key behind it."""

_KEYS_AT_ONCE: Final = 500
"""Keys looked at in one transaction."""
_PENDING: Final = runs.c.status == word(Status.PENDING)


def put_aside(tx: Tx, run_ids: Sequence[UUID]) -> None:
    """These runs, which are locked and ready, wait until a place is free."""
    aside = update(runs).where(runs.c.id.in_(run_ids), _PENDING, ~runs.c.gated)
    values = {"gated": True, "blocked": runs.c.blocked + 1, "revision": runs.c.revision + 1}
    tx.conn.execute(aside.values(values))
    tx.hint(Hint.CHANGE)


def give_places(tx: Tx, ended: Iterable[UUID]) -> None:
    """Attempts of these runs, which stand behind gates, have ended: for each place the next one may come."""
    query = select(runs.c.gate, runs.c.concurrency_key).where(
        runs.c.id.in_(list(ended)), runs.c.concurrency_key.is_not(None), runs.c.gate > 0
    )
    free: Counter[Key] = Counter((row.gate, row.concurrency_key) for row in tx.conn.execute(query))
    if free:
        # A claim that counts the lease that has just ended puts its run aside before this looks, or after.
        ids = sorted({gate for gate, _ in free})
        read_gates(tx.conn, ids, lambda query: tx.differences.locked(query, by=gates.c.id))
        _call(tx, free)


@dataclass(frozen=True, slots=True)
class CallWaiting:
    """Look for keys that have a free place and runs that wait for it; `after` a key, where the last look ended."""

    after: Key | None = None


class Called(NamedTuple):
    """How many may come, and where to go on looking; None: at the first key again."""

    runs: int
    last: Key | None


@verb(Rank.CHANGE)
def call_waiting(tx: Tx, items: Sequence[CallWaiting]) -> Sequence[Called | JobdeckError]:
    """Let runs come whose place nobody takes: the next one of their key was cancelled, say, or its limit raised."""
    end_pauses(tx)
    return [_call_waiting(tx, item) for item in items]


def _call_waiting(tx: Tx, item: CallWaiting) -> Called:
    keys = _waiting_keys(tx.conn, item.after)
    free = _free_places(tx.conn, keys, lambda query: tx.differences.locked(query, by=gates.c.id))
    return Called(_call(tx, free), keys[-1] if len(keys) == _KEYS_AT_ONCE else None)


def places_are_free(conn: Connection) -> bool:
    """Whether runs that were put aside may come, and nobody has called them yet."""
    return bool(_free_places(conn, _waiting_keys(conn, None)))


def _waiting_keys(conn: Connection, after: Key | None) -> list[Key]:
    """Keys that runs wait for, step by step along their index: there may be thousands of runs to each."""
    found: list[Key] = []
    key = tuple_(runs.c.gate, runs.c.concurrency_key)
    while len(found) < _KEYS_AT_ONCE:
        query = select(runs.c.gate, runs.c.concurrency_key).where(GATED)
        last = found[-1] if found else after
        if last is not None:
            query = query.where(key > tuple_(literal(last[0]), literal(last[1])))
        row = conn.execute(query.order_by(runs.c.gate, runs.c.concurrency_key).limit(1)).first()
        if row is None:
            break
        found.append((row.gate, row.concurrency_key))
    return found


def _free_places(conn: Connection, keys: Sequence[Key], lock: Lock | None = None) -> Counter[Key]:
    if not keys:
        return Counter()
    passed = read_gates(conn, sorted({gate for gate, _ in keys}), lock)
    running = count_running(conn, {team_id for team_id, _ in passed.values()}).keys
    free = Counter({key: passed[key[0]][1].per_key - running[key] for key in keys if key[0] in passed})
    return +free


def _call(tx: Tx, free: Counter[Key]) -> int:
    """Let so many of each key come, in the order of every claim."""
    called: list[UUID] = []
    for (gate, key), places in sorted(free.items(), key=lambda item: (item[0][0], str(item[0][1]))):
        query = (
            select(runs.c.id)
            .where(GATED, runs.c.gate == gate, runs.c.concurrency_key == key)
            .order_by(runs.c.priority, runs.c.due_at, runs.c.id)
            .limit(places)
        )
        called += tx.conn.execute(tx.differences.unlocked_only(query, runs)).scalars()
    if called:
        tx.conn.execute(_COME, [{"run": run_id} for run_id in called])
        tx.hint(Hint.WORK | Hint.CHANGE)
    return len(called)


_COME: Final[Any] = (
    update(runs)
    .where(runs.c.id == bindparam("run"), runs.c.gated)
    .values(gated=False, blocked=runs.c.blocked - 1, revision=runs.c.revision + 1)
)
