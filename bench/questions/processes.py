"""What do more worker processes bring on one database? 1, 2, 4 and 8 of them, no-op handlers, 100 in flight each."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from bench.deck import KINDS, SHOWN, Kind, new_deck
from bench.drain import Drained, Load, drain
from bench.questions.draining import details, rates
from bench.results import Goal, Other, Row, times
from bench.room import Room

_PROCESSES = (1, 2, 4, 8)
_COUNT = 20_000
_IN_FLIGHT = 100
_ONE = "one process"
_GOALS = {"sqlite": 0.8, "postgresql": 1.5}
_LEAST_SHARE = 0.15


def answer(room: Room) -> list[Row]:
    """On both databases."""
    return [row for kind in KINDS for row in _on(room, kind)]


def _on(room: Room, kind: Kind) -> list[Row]:
    measures = {str(number): partial(_measure, room, kind, number) for number in _PROCESSES}
    found = room.rounds(f"processes {SHOWN[kind]}", measures)
    one = Other(_ONE, "jobdeck", rates(found["1"]))
    rows = []
    for number in _PROCESSES:
        drained = found[str(number)]
        shares = tuple(each.shares[0] for each in drained)
        row = Row(
            f"{SHOWN[kind]}: drain no-op, worker processes: {number}",
            "runs/s",
            rates(drained),
            (one,) if number > 1 else (),
            details=details(drained) | {"smallest_share": shares},
        )
        if number == 4:
            least = Goal(f"each ≥ {_LEAST_SHARE:.0%} of the runs", shares, at_least=_LEAST_SHARE)
            row = row.held_to(*times(row, _ONE, _GOALS[kind]), *([least] if kind == "sqlite" else []))
        rows.append(row)
    return rows


def _measure(room: Room, kind: Kind, number: int) -> Drained:
    """All workers are up and idle before the first run is due, so that none has a head start."""
    count = room.count(_COUNT)
    with new_deck(room, kind) as deck:
        deck.enqueue(count - 1, delay=timedelta(hours=1))
        load = Load(
            count, deck.has_ended, release=deck.release, ready=lambda: deck.has_workers(number), seconds=180
        )
        return drain([deck.worker(_IN_FLIGHT)] * number, load, deck.folder)
