"""Turns under concurrency keys: who has no place is put aside, out of the lanes, until one of the same key has ended.

A run that is put aside is blocked like one that waits for another run, and `gated` says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, select, update

from jobdeck.errors import JobdeckError
from jobdeck.states import Status
from jobdeck.store.columns import word
from jobdeck.store.control.budget import count_running
from jobdeck.store.control.gates import read_gates
from jobdeck.store.control.pauses import end_pauses
from jobdeck.store.schema import GATED, runs
from jobdeck.store.transaction import Hint, Rank, Tx, verb

Key = tuple[int, str]
"""A gate and a concurrency key behind it."""

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
        read_gates(tx.conn, sorted({gate for gate, _ in free}), tx.differences.locked)
        _call(tx, free)


@dataclass(frozen=True, slots=True)
class CallWaiting:
    """Look for keys that have a free place and runs that wait for it."""


@verb(Rank.CHANGE)
def call_waiting(tx: Tx, items: Sequence[CallWaiting]) -> Sequence[int | JobdeckError]:
    """How many may come: of a key whose next run was cancelled, say, or whose limit has been raised."""
    end_pauses(tx)
    query = select(runs.c.gate, runs.c.concurrency_key, runs.c.team_id).where(GATED).distinct()
    waiting = {(row.gate, row.concurrency_key): row.team_id for row in tx.conn.execute(query)}
    called = 0
    if waiting:
        gates = read_gates(tx.conn, sorted({gate for gate, _ in waiting}), tx.differences.locked)
        running = count_running(tx.conn, set(waiting.values())).keys
        per_key = {gate: limits.per_key for gate, (_, limits) in gates.items()}
        free = Counter({key: per_key.get(key[0], 1) - running[key] for key in waiting})
        called = _call(tx, +free)
    return [called if index == 0 else 0 for index, _ in enumerate(items)]


def _call(tx: Tx, free: Counter[Key]) -> int:
    """Let so many of each key come, in the order of every claim."""
    called: list[UUID] = []
    for (gate, key), places in sorted(free.items()):
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
