"""How fast does one worker get through what waits? By runs in flight, by handler, on both databases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from bench.deck import SHOWN, Kind
from bench.drain import Drained
from bench.limits.child import limit
from bench.peers.peer import HUEY, PGQUEUER, PROCRASTINATE
from bench.questions.draining import Case, details, drain_fresh, drain_peer, rates
from bench.results import Other, Role, Row, others, times
from bench.room import Room
from tests.postgres import create_database, drop_database

_REPORTS = 5
# Enough for 1 to 3 s each on two cores.
_COUNTS = {"noop 1": 2_000, "noop 10": 5_000, "noop 100": 10_000, "report": 5_000}
_HUEY_COUNT, _PGQUEUER_COUNT, _PROCRASTINATE_COUNT = 3_000, 20_000, 600
_PROTOTYPE_COUNT = 20_000
_LIMIT_SECONDS = 1.0
_SLOW_HANDLER_SECONDS = 2.0

Measures = dict[str, Callable[[], Drained]]


def sqlite(room: Room) -> list[Row]:
    """On one file, beside huey, the group-commit prototype and the standard library."""
    cases = _cases(room)
    ours = _ours(room, "sqlite", cases)
    measures: Measures = {
        "noop 1": ours.pop("noop 1"),
        **(
            {"huey-sqlite": lambda: drain_peer(room, HUEY, room.count(_HUEY_COUNT))}
            if room.with_peers
            else {}
        ),
        "noop 100": ours.pop("noop 100"),
        "group-commit prototype": partial(_prototype, room, 100),
        "noop 10": ours.pop("noop 10"),
        "group-commit prototype, 10": partial(_prototype, room, 10),
        "stdlib sqlite3 one by one": partial(_stdlib, room),
        **ours,
    }
    found = room.rounds("drain SQLite", measures)
    per_second = {name: rates(drained) for name, drained in found.items()}
    huey: tuple[str, Role] = ("huey-sqlite", "peer")
    beside = {
        "noop 1": others(per_second, huey, ("stdlib sqlite3 one by one", "bare")),
        "noop 10": others(per_second, huey, ("group-commit prototype, 10", "bare")),
        "noop 100": others(per_second, huey, ("group-commit prototype", "bare")),
    }
    rows = _rows("sqlite", cases, found, beside)
    one, full = rows["noop 1"], rows["noop 100"]
    rows["noop 1"] = one.held_to(*times(one, "huey-sqlite", 1))
    rows["noop 100"] = full.held_to(
        *times(full, "huey-sqlite", 3), *times(full, "group-commit prototype", 0.5)
    )
    return [*rows.values(), _cpu_row("sqlite", found, ("huey-sqlite",))]


def postgres(room: Room) -> list[Row]:
    """On one server, beside pgqueuer, procrastinate and bare asyncpg."""
    cases = _cases(room)
    ours = _ours(room, "postgresql", cases)
    measures: Measures = {
        "noop 1": ours.pop("noop 1"),
        "asyncpg one by one": partial(_asyncpg, room, 1),
        "noop 100": ours.pop("noop 100"),
        **(_postgres_peers(room) if room.with_peers else {}),
        "asyncpg batch 100": partial(_asyncpg, room, 100),
        **ours,
    }
    found = room.rounds("drain PostgreSQL", measures)
    per_second = {name: rates(drained) for name, drained in found.items()}
    beside = {
        "noop 1": others(per_second, ("asyncpg one by one", "bare")),
        "noop 100": others(
            per_second, ("pgqueuer", "peer"), ("procrastinate", "peer"), ("asyncpg batch 100", "bare")
        ),
    }
    rows = _rows("postgresql", cases, found, beside)
    full = rows["noop 100"]
    rows["noop 100"] = full.held_to(
        *times(full, "pgqueuer", 1.2, "pgqueuer at batch 100"), *times(full, "procrastinate", 20)
    )
    return [*rows.values(), _cpu_row("postgresql", found, ("pgqueuer", "procrastinate"))]


def _cases(room: Room) -> dict[str, Case]:
    cases = {f"noop {n}": Case(n, room.count(_COUNTS[f"noop {n}"])) for n in (1, 10, 100)}
    for wait_ms in (1, 10):
        for in_flight in (1, 10, 100):
            # No more than a worker without any cost of its own would do in that time.
            count = min(_SLOW_HANDLER_SECONDS * in_flight / wait_ms * 1000, _COUNTS[f"noop {in_flight}"])
            case = Case(in_flight, room.count(int(count)), "bench_wait", {"wait_ms": wait_ms})
            cases[f"{wait_ms} ms, {in_flight}"] = case
    cases["report"] = Case(100, room.count(_COUNTS["report"]), "bench_report", {"reports": _REPORTS})
    return cases


def _ours(room: Room, kind: Kind, cases: Mapping[str, Case]) -> Measures:
    return {name: partial(drain_fresh, room, kind, case) for name, case in cases.items()}


def _postgres_peers(room: Room) -> Measures:
    return {
        "pgqueuer": lambda: drain_peer(room, PGQUEUER, room.count(_PGQUEUER_COUNT), "bulk"),
        "procrastinate": lambda: drain_peer(room, PROCRASTINATE, room.count(_PROCRASTINATE_COUNT), "bulk"),
    }


def _rows(
    kind: Kind,
    cases: Mapping[str, Case],
    found: Mapping[str, list[Drained]],
    beside: Mapping[str, tuple[Other, ...]],
) -> dict[str, Row]:
    return {
        name: Row(
            f"{SHOWN[kind]}: drain {_handler(case)}, {case.in_flight} in flight",
            "runs/s",
            rates(found[name]),
            beside.get(name, ()),
            details=details(found[name]),
        )
        for name, case in cases.items()
    }


def _handler(case: Case) -> str:
    if case.job_type == "bench_report":
        return f"with {_REPORTS} progress reports and {_REPORTS} log lines each"
    return f"handlers of {case.params['wait_ms']} ms" if case.params else "no-op"


def _cpu_row(kind: Kind, found: Mapping[str, list[Drained]], peers: tuple[str, ...]) -> Row:
    cpu = {name: tuple(each.cpu_us for each in drained) for name, drained in found.items()}
    what = f"{SHOWN[kind]}: CPU of the worker per run, no-op, 100 in flight"
    return Row(what, "us", cpu["noop 100"], others(cpu, *((name, "peer") for name in peers)))


def _prototype(room: Room, in_flight: int) -> Drained:
    count = room.count(_PROTOTYPE_COUNT if in_flight == 100 else _PROTOTYPE_COUNT // 4)
    return _bare(limit("group_commit", room.new_folder() / "jobs.db", in_flight, count))


def _stdlib(room: Room) -> Drained:
    return _bare(
        limit("stdlib_sqlite", "cycle", room.new_folder() / "jobs.db", 1, room.seconds(_LIMIT_SECONDS))
    )


def _asyncpg(room: Room, batch: int) -> Drained:
    url = create_database(room.server)
    try:
        return _bare(limit("asyncpg_postgres", "cycle", url, batch, room.seconds(_LIMIT_SECONDS)))
    finally:
        drop_database(room.server, url)


def _bare(per_second: float) -> Drained:
    return Drained(per_second, cpu_us=0.0, rss_mib=0.0, again=0, shares=())
