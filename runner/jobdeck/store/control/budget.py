"""How many runs of what may begin now: counted while nobody else can claim behind the same gates and queues."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, func, select

from jobdeck.clock import from_us
from jobdeck.cron import ExecutionWindow
from jobdeck.errors import ValidationError
from jobdeck.store.control.gates import NO_LIMITS, Limits, Lock, Rate, parse_limits, read_gates
from jobdeck.store.control.rates import Name, TeamRate, left, lock_shared
from jobdeck.store.schema import gates, leases, queues, runs
from jobdeck.store.transaction import Tx

Place = tuple[UUID, str]
"""A queue of a team."""
Gates = dict[int, tuple[UUID, Limits]]
"""Team and limits of gates."""


class Limit(StrEnum):
    """What keeps a run from beginning."""

    WINDOW = "window"
    JOB = "job"
    QUEUE = "queue"
    KEY = "key"
    RATE = "rate"


class Lane(NamedTuple):
    """Where runs stand, as far as limits care."""

    team_id: UUID
    queue: str
    gate: int


def lane_of(row: Any) -> Lane:
    """Where a run stands."""
    return Lane(row.team_id, row.queue, row.gate)


class Running(NamedTuple):
    """How many runs hold a lease: in each queue, behind each gate, with each key behind it."""

    queues: Counter[Place]
    gates: Counter[int]
    keys: Counter[tuple[int, str]]


class Budget:
    """What is left of all limits that hold for some lanes; `take` uses it up."""

    def __init__(
        self,
        limits: dict[int, Limits],
        queue_limits: dict[Place, int],
        running: Running,
        rates_left: dict[TeamRate, int],
        now: datetime,
        lanes: Collection[Lane],
    ) -> None:
        self.lanes = frozenset(lanes)
        """Those that it is about; what has come to stand in others meanwhile it knows nothing of."""
        self._limits = limits
        self._queue_limits = queue_limits
        self._running = running
        self._left = rates_left
        self._now = now
        self.used: Counter[Name] = Counter()
        """Beginnings to be told of, by the names of rates."""

    def shut(self) -> list[int]:
        """The gates that nothing passes now."""
        return [gate for gate, limits in self._limits.items() if self._is_shut(gate, limits)]

    def limit(self, run: Any) -> Limit | None:
        """The first thing that keeps this run (team_id, queue, gate, concurrency_key) from beginning."""
        return next(self.limits(run), None)

    def limits(self, run: Any) -> Iterator[Limit]:
        """All that keeps a run from beginning."""
        limits = self.limits_of(run.gate)
        if limits.window is not None and not is_open(limits.window, self._now):
            yield Limit.WINDOW
        if limits.max_concurrency is not None and self._running.gates[run.gate] >= limits.max_concurrency:
            yield Limit.JOB
        most = self.queue_limit(run.team_id, run.queue)
        if most is not None and self._running.queues[run.team_id, run.queue] >= most:
            yield Limit.QUEUE
        if any(self._left[run.team_id, rate] < 1 for rate in limits.rates):
            yield Limit.RATE
        key = run.concurrency_key
        if key is not None and run.gate and self._running.keys[run.gate, key] >= limits.per_key:
            yield Limit.KEY

    def limits_of(self, gate: int) -> Limits:
        """What holds for the runs behind a gate."""
        return self._limits.get(gate, NO_LIMITS)

    def knows(self, gate: int) -> bool:
        """Whether there is such a gate; nothing passes one that there is not."""
        return not gate or gate in self._limits

    def queue_limit(self, team_id: UUID, queue: str) -> int | None:
        """How many runs of a queue may run at a time."""
        return self._queue_limits.get((team_id, queue))

    def take(self, run: Any) -> None:
        """This run begins."""
        self._running.queues[run.team_id, run.queue] += 1
        self._running.gates[run.gate] += 1
        if run.concurrency_key is not None:
            self._running.keys[run.gate, run.concurrency_key] += 1
        for rate in self._limits.get(run.gate, NO_LIMITS).rates:
            self._left[run.team_id, rate] -= 1
            self.used[run.team_id, rate.name] += 1
            self._share(run.team_id, rate)

    def _share(self, team_id: UUID, used: Rate) -> None:
        for (team, rate), left_of_it in self._left.items():
            if team == team_id and rate.name == used.name and rate != used:
                self._left[team, rate] = left_of_it - 1

    def _is_shut(self, gate: int, limits: Limits) -> bool:
        full = limits.max_concurrency is not None and self._running.gates[gate] >= limits.max_concurrency
        return full or (limits.window is not None and not is_open(limits.window, self._now))


def closed_windows(conn: Connection, now: int) -> list[int]:
    """The gates whose execution windows are closed now."""
    at = from_us(now)
    rows = conn.execute(select(gates.c.id, gates.c.limits).where(gates.c.limits.contains('"window": [')))
    windows = ((row.id, parse_limits(row.limits).window) for row in rows)
    return [gate for gate, window in windows if window is not None and not is_open(window, at)]


def is_open(window: tuple[str, str], now: datetime) -> bool:
    """Whether an execution window is open; one that cannot be read is not."""
    found = window_of(*window)
    return found is not None and found.is_open(now)


@lru_cache(1_000)
def window_of(cron: str, timezone: str) -> ExecutionWindow | None:
    """The window; None for a row that has been tampered with."""
    try:
        return ExecutionWindow(cron, timezone)
    except ValidationError:
        return None


def budget_for(tx: Tx, lanes: Iterable[Lane]) -> Budget:
    """What may begin in these lanes, of those that nobody else is just claiming from.

    Nobody else claims behind their gates and in their limited queues until the commit. What others have locked is left
    to them: a claim waits for nobody, for it holds what others may wait for.
    """
    conn, differences = tx.conn, tx.differences
    found = set(lanes)
    asked = sorted({lane.gate for lane in found} - {0})
    passed = read_gates(conn, asked, lambda query: differences.unlocked_only(query, gates))
    wanted = limited_queues(conn, {(lane.team_id, lane.queue) for lane in found})
    limited = (
        limited_queues(conn, wanted, lambda query: differences.unlocked_only(query, queues)) if wanted else {}
    )
    busy = lock_shared(tx, _rates_of(passed))
    free = {
        gate
        for gate, (team_id, limits) in passed.items()
        if not any((team_id, rate.name) in busy for rate in limits.rates)
    } | {0}
    mine = {
        lane
        for lane in found
        if lane.gate in free
        and ((lane.team_id, lane.queue) not in wanted or (lane.team_id, lane.queue) in limited)
    }
    return _budget(conn, tx.now, passed, limited, mine)


def budget_now(conn: Connection, now: int, lane: Lane) -> Budget:
    """What may begin in a lane, as it looks now."""
    passed = read_gates(conn, [lane.gate] if lane.gate else [])
    return _budget(conn, now, passed, limited_queues(conn, {(lane.team_id, lane.queue)}), {lane})


def _rates_of(passed: Gates) -> list[TeamRate]:
    return [(team_id, rate) for team_id, limits in passed.values() for rate in limits.rates]


def _budget(
    conn: Connection,
    now: int,
    passed: Gates,
    limited: dict[Place, int],
    lanes: Collection[Lane],
) -> Budget:
    return Budget(
        {gate: limits for gate, (_, limits) in passed.items()},
        limited,
        count_running(conn, {team_id for team_id, _ in (*passed.values(), *limited)}),
        {(team_id, rate): left(conn, now, team_id, rate) for team_id, rate in _rates_of(passed)},
        from_us(now),
        lanes,
    )


def count_running(conn: Connection, team_ids: Collection[UUID]) -> Running:
    """Who holds a lease of these teams."""
    running = Running(Counter(), Counter(), Counter())
    if not team_ids:
        return running
    of_run = runs.c.queue, runs.c.gate, runs.c.concurrency_key
    query = (
        select(leases.c.team_id, *of_run, func.count().label("number"))
        .join(runs, runs.c.id == leases.c.run_id)
        .where(leases.c.team_id.in_(team_ids))
        .group_by(leases.c.team_id, *of_run)
    )
    for row in conn.execute(query):
        running.queues[row.team_id, row.queue] += row.number
        running.gates[row.gate] += row.number
        if row.concurrency_key is not None:
            running.keys[row.gate, row.concurrency_key] += row.number
    return running


def limited_queues(conn: Connection, places: Collection[Place], lock: Lock | None = None) -> dict[Place, int]:
    """The limits of those of these queues that have one; of those that `lock` leaves."""
    teams = {team_id for team_id, _ in places}
    limited = queues.c.team_id.in_(teams), queues.c.max_concurrency.is_not(None)
    query = select(queues).where(*limited).order_by(queues.c.team_id, queues.c.name)
    rows = conn.execute(query if lock is None else lock(query))
    found = {(row.team_id, row.name): int(row.max_concurrency) for row in rows}
    return {place: most for place, most in found.items() if place in places}
