"""Does a worker get slower the more ended runs are stored? Drained on top of none, 1,000, 100,000 and a million."""

from __future__ import annotations

from functools import partial

from bench.deck import KINDS, SHOWN, Kind
from bench.drain import Drained
from bench.history import history
from bench.questions.draining import Case, details, drain_deck, drain_fresh, rates
from bench.results import Other, Row, times
from bench.room import Room

MILLION = 1_000_000
_STORED = (1_000, 100_000, MILLION)
_COUNT = 10_000
_IN_FLIGHT = 100
_EMPTY = "empty"
_LEAST = 0.8


def answer(room: Room) -> list[Row]:
    """On both databases."""
    return [row for kind in KINDS for row in _on(room, kind)]


def _on(room: Room, kind: Kind) -> list[Row]:
    case = Case(_IN_FLIGHT, room.count(_COUNT))
    for count in _STORED:
        history(room, kind, room.count(count))
    measures = {
        f"{count:,}": partial(_drain_after, room, kind, room.count(count), case)
        for count in reversed(_STORED)
    }
    found = room.rounds(f"stored {SHOWN[kind]}", {_EMPTY: partial(drain_fresh, room, kind, case), **measures})
    empty = Other(_EMPTY, "jobdeck", rates(found[_EMPTY]))
    rows = []
    for count in _STORED:
        drained = found[f"{count:,}"]
        what = f"{SHOWN[kind]}: drain no-op with {room.count(count):,} ended runs stored"
        row = Row(what, "runs/s", rates(drained), (empty,), details=details(drained))
        rows.append(row.held_to(*times(row, _EMPTY, _LEAST)) if count == MILLION else row)
    return rows


def _drain_after(room: Room, kind: Kind, stored: int, case: Case) -> Drained:
    return drain_deck(history(room, kind, stored), case)
