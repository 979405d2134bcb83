"""What does a slow disk cost? Every fsync takes 2 ms longer, as on a network disk; SQLite, no-op handlers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bench.limits.child import limit
from bench.limits.slow_disk import slow_disk
from bench.questions.draining import Case, drain_fresh
from bench.results import Row, others, times
from bench.room import Room

ADDED_MS = 2
_COUNTS = {1: 200, 10: 1_000, 100: 5_000}
_PROTOTYPE_COUNT = 5_000
_LIMIT_SECONDS = 1.5


def answer(room: Room) -> list[Row]:
    """Beside the standard library one by one and the group-commit prototype on the same pretended disk."""
    slow = slow_disk(room.folder, ADDED_MS)
    if slow is None:
        return [Row(_what(100), "runs/s", (), note="no C compiler here, so nothing could be slowed down")]

    def ours(in_flight: int) -> float:
        case = Case(in_flight, room.count(_COUNTS[in_flight]), worker_environment=slow)
        return drain_fresh(room, "sqlite", case).per_second

    def stdlib() -> float:
        path = room.new_folder() / "jobs.db"
        return float(limit("stdlib_sqlite", "cycle", path, 1, room.seconds(_LIMIT_SECONDS), more=slow))

    def prototype() -> float:
        path = room.new_folder() / "jobs.db"
        return float(limit("group_commit", path, 100, room.count(_PROTOTYPE_COUNT), more=slow))

    measures: dict[str, Callable[[], float]] = {
        "100": partial(ours, 100),
        "stdlib sqlite3 one by one": stdlib,
        "group-commit prototype": prototype,
        "10": partial(ours, 10),
        "1": partial(ours, 1),
    }
    found = room.rounds("slow disk", measures)
    beside = others(found, ("stdlib sqlite3 one by one", "bare"), ("group-commit prototype", "bare"))
    rows = [
        Row(_what(n), "runs/s", tuple(found[str(n)]), beside[: 2 if n == 100 else 1]) for n in (1, 10, 100)
    ]
    rows[-1] = rows[-1].held_to(*times(rows[-1], "stdlib sqlite3 one by one", 20))
    return rows


def _what(in_flight: int) -> str:
    return f"SQLite, {ADDED_MS} ms added to each fsync: drain no-op, {in_flight} in flight"
