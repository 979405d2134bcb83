"""How much memory does a worker hold after 100,000 runs, and does it stay at that?"""

from __future__ import annotations

from functools import partial

from bench.deck import KINDS, SHOWN, Kind, new_deck
from bench.marks import VARIABLE, Marks
from bench.process import MeasurementError, running
from bench.results import Goal, Row, at_most
from bench.room import Room

_COUNT = 100_000
_SAMPLES = 5
_IN_FLIGHT = 100
_SECONDS_PER_SAMPLE = 90.0
_MOST_MIB = 80
# The allocator keeps pages that it has once had, so a few percent are no leak.
_MOST_GROWTH = 1.05


def answer(room: Room) -> list[Row]:
    """Resident memory by /proc, on both databases; flat: from the second of five samples to the last."""
    rows = []
    for kind in KINDS:
        found = room.rounds(f"memory {SHOWN[kind]}", {"worker": partial(_measure, room, kind)})["worker"]
        count = room.count(_COUNT)
        samples = {
            f"rss_mib_after_{count * number // _SAMPLES}": tuple(rss[number - 1] for rss in found)
            for number in range(1, _SAMPLES + 1)
        }
        row = Row(
            f"{SHOWN[kind]}: memory of a worker after {count:,} runs",
            "MiB",
            tuple(rss[-1] for rss in found),
            details=samples,
        )
        growth = tuple(rss[-1] / rss[1] for rss in found)
        flat = Goal(
            f"flat: ≤ {_MOST_GROWTH:g} x after {count * 2 // _SAMPLES:,}", growth, at_most=_MOST_GROWTH
        )
        rows.append(row.held_to(*at_most(row, _MOST_MIB), flat))
    return rows


def _measure(room: Room, kind: Kind) -> list[float]:
    with new_deck(room, kind) as deck:
        count = room.count(_COUNT, least=_SAMPLES)
        deck.enqueue(count)
        marks = Marks(deck.folder / "marks")
        worker = deck.worker(_IN_FLIGHT).with_environment({VARIABLE: str(marks.path)})
        with running(worker, deck.folder / "worker.log") as process:
            found = []
            for number in range(1, _SAMPLES + 1):
                if not marks.wait(count * number // _SAMPLES, _SECONDS_PER_SAMPLE):
                    raise MeasurementError(f"the worker got stuck: {process.said()}")
                found.append(process.rss_mib())
            return found
