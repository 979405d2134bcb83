"""How long does the one run of a team wait while another team has 100,000 waiting?"""

from __future__ import annotations

import time
from functools import partial

from bench.deck import KINDS, SHOWN, Deck, Kind, new_deck
from bench.marks import VARIABLE, Marks
from bench.payload import payload
from bench.process import MeasurementError, running
from bench.results import Goal, Row
from bench.room import Room
from jobdeck.client import Client

_COUNT = 100_000
_IN_FLIGHT = 100
_OTHER_TEAM = "small"
_SECONDS = 60.0
_MOST_MS = 1_000


def answer(room: Room) -> list[Row]:
    """On both databases, with all slots busy with no-op handlers of the big team."""
    rows = []
    for kind in KINDS:
        found = room.rounds(f"fairness {SHOWN[kind]}", {"one": partial(_measure, room, kind)})["one"]
        waits = tuple(found)
        row = Row(
            f"{SHOWN[kind]}: {room.count(_COUNT):,} waiting runs of one team, 1 of another: until it starts",
            "ms",
            waits,
        )
        rows.append(row.held_to(Goal("≤ 1 s", waits, at_most=_MOST_MS)))
    return rows


def _measure(room: Room, kind: Kind) -> float:
    with new_deck(room, kind, teams=[_OTHER_TEAM]) as deck:
        count = room.count(_COUNT, least=500)
        deck.enqueue(count)
        marks = Marks(deck.folder / "marks")
        worker = deck.worker(_IN_FLIGHT).with_environment({VARIABLE: str(marks.path)})
        with running(worker, deck.folder / "worker.log") as process:
            if not marks.wait(count // 100, _SECONDS):
                raise MeasurementError(f"the worker did not start: {process.said()}")
            late_ns = _make_the_one(deck)
            if marks.count() >= count:
                raise MeasurementError("the big team's runs were over before the other's was made; take more")
            deadline = time.monotonic() + _SECONDS
            while time.monotonic() < deadline:
                for mark in marks.read():
                    if mark.sent_ns > late_ns:
                        return mark.wait_ms
                time.sleep(0.05)
    raise MeasurementError(f"the run of the small team did not start within {_SECONDS:g} s")


def _make_the_one(deck: Deck) -> int:
    """Two runs, the first of which makes the client load what it needs; the time between them."""
    between: list[int] = []

    async def make(client: Client) -> None:
        await client.runs.enqueue("bench_noop", payload())
        between.append(time.monotonic_ns())
        await client.runs.enqueue("bench_noop", payload())

    deck.by_client(make, _OTHER_TEAM)
    return between[0]
