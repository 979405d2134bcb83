"""How soon is a run picked up by an idle worker? From before the call that makes it to its handler's first line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from bench.deck import KINDS, SHOWN, Deck, Kind, new_deck
from bench.limits.child import limit
from bench.marks import VARIABLE, Marks
from bench.process import MeasurementError, running
from bench.producer import GAPS_S
from bench.results import Other, Row, at_most
from bench.room import Room
from bench.stats import percentile
from tests.postgres import create_database, drop_database

_COUNT = 200
_IN_FLIGHT = 10
_SECONDS = 60.0
# p50 and p99 in ms.
_SAME_PROCESS = (1.0, 5.0)
_OTHER_PROCESS = {"sqlite": (2.0, 10.0), "postgresql": (3.0, 10.0)}

Waits = list[float]
Measure = Callable[[], Waits]


def answer(room: Room) -> list[Row]:
    """From the worker's own process and from another, on both databases, beside the least that either could take."""
    rows: list[Row] = []
    for kind in KINDS:
        bare_other = partial(_datagram, room) if kind == "sqlite" else partial(_notify, room)
        measures: dict[str, Measure] = {
            "same process": partial(_from_same_process, room, kind),
            "thread to event loop": lambda: _checked(limit("wakeups", "thread", room.count(_COUNT))),
            "bare pick-up, same process": partial(_bare_pickup, room, kind, "same"),
            "other process": partial(_from_other_process, room, kind),
            _BARE[kind]: bare_other,
            "bare pick-up, other process": partial(_bare_pickup, room, kind, "other"),
        }
        found = room.rounds(f"pick-up {SHOWN[kind]}", measures)
        rows += _rows(kind, "same process", found, "thread to event loop", _SAME_PROCESS)
        rows += _rows(kind, "other process", found, _BARE[kind], _OTHER_PROCESS[kind])
    return rows


_BARE = {"sqlite": "Unix datagram", "postgresql": "NOTIFY"}


def _rows(
    kind: Kind, where: str, found: dict[str, list[Waits]], wake_up: str, bounds: tuple[float, float]
) -> list[Row]:
    rows = []
    for share, bound in zip((0.50, 0.99), bounds, strict=True):
        others = tuple(
            Other(name, "bare", _percentiles(found[name], share))
            for name in (wake_up, f"bare pick-up, {where}")
        )
        what = f"{SHOWN[kind]}: pick-up, {where}, p{share * 100:.0f}"
        row = Row(what, "ms", _percentiles(found[where], share), others)
        rows.append(row.held_to(*at_most(row, bound)))
    return rows


def _percentiles(rounds: Sequence[Waits], share: float) -> tuple[float, ...]:
    return tuple(percentile(waits, share) for waits in rounds)


def _from_other_process(room: Room, kind: Kind) -> Waits:
    with new_deck(room, kind) as deck:
        count = room.count(_COUNT)
        return _waits(deck, count, lambda: deck.producer("timed", count))


def _from_same_process(room: Room, kind: Kind) -> Waits:
    """A handler makes the runs, so that nothing has to leave the worker's process."""
    with new_deck(room, kind) as deck:
        count = room.count(_COUNT)
        step = (GAPS_S[1] - GAPS_S[0]) / max(count - 1, 1)
        gaps = [round(GAPS_S[0] + number * step, 5) for number in range(count)]
        return _waits(deck, count, lambda: deck.enqueue(1, "bench_parent", {"gaps_s": gaps}))


def _waits(deck: Deck, count: int, make: Callable[[], object]) -> Waits:
    marks = Marks(deck.folder / "marks")
    worker = deck.worker(_IN_FLIGHT).with_environment({VARIABLE: str(marks.path)})
    with running(worker, deck.folder / "worker.log") as process:
        _warm_up(deck, marks)
        make()
        if not marks.wait(count + 1, _SECONDS):
            raise MeasurementError(f"{marks.count() - 1} of {count} runs were picked up: {process.said()}")
    return [mark.wait_ms for mark in marks.read()[1:]]


def _warm_up(deck: Deck, marks: Marks) -> None:
    """One run through the worker, so that it has started and is idle again."""
    deck.enqueue(1)
    if not marks.wait(1, _SECONDS):
        raise MeasurementError("the worker did not start")


def _datagram(room: Room) -> Waits:
    return _checked(limit("wakeups", "datagram", room.count(_COUNT), room.new_folder() / "s"))


def _notify(room: Room) -> Waits:
    return _checked(limit("wakeups", "notify", room.count(_COUNT), room.server.url))


def _bare_pickup(room: Room, kind: Kind, where: str) -> Waits:
    count = room.count(_COUNT)
    if kind == "sqlite":
        return _checked(limit("bare_pickup", f"{where}_sqlite", count, room.new_folder() / "b"))
    url = create_database(room.server)
    try:
        return _checked(limit("bare_pickup", f"{where}_postgres", count, url))
    finally:
        drop_database(room.server, url)


def _checked(found: object) -> Waits:
    assert isinstance(found, list)
    return [float(value) for value in found]
