"""How fast are lists, filters and counts with a million runs stored? By the client, as the console asks."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from bench.deck import KINDS, SHOWN, Deck, Kind
from bench.history import history
from bench.questions.stored import MILLION
from bench.results import Other, Row, at_most
from bench.room import Room
from bench.stats import percentile
from bench.table import shown

_CALLS = 200
_MOST_MS = {"sqlite": 5, "postgresql": 10}
_BARE = "the driver alone"
_BARE_PAGE = """
SELECT * FROM runs WHERE team_id = (SELECT id FROM teams WHERE slug = 'default')
ORDER BY created_at DESC, id DESC LIMIT 51
"""
Waits = dict[str, list[float]]


def answer(room: Room) -> list[Row]:
    """On both databases, p50 and p99."""
    return [row for kind in KINDS for row in _on(room, kind)]


def _on(room: Room, kind: Kind) -> list[Row]:
    stored = room.count(MILLION)
    deck = history(room, kind, stored)
    calls = room.count(_CALLS)
    measures = {"client": partial(_by_client, deck, calls), _BARE: partial(_by_driver, deck, calls)}
    found: dict[str, list[Waits]] = room.rounds(f"lists {SHOWN[kind]}", measures)
    rows = []
    for name in found["client"][0]:
        p50, p99 = (tuple(percentile(each[name], share) for each in found["client"]) for share in (0.5, 0.99))
        bare = tuple(percentile(each[_BARE], 0.99) for each in found[_BARE])
        row = Row(
            f"{SHOWN[kind]}, {stored:,} runs: {name}, p99",
            "ms",
            p99,
            (Other(_BARE, "bare", bare),) if name == "list, first page" else (),
            note=f"p50 {shown(p50)}",
            details={"p50_ms": p50},
        )
        rows.append(row.held_to(*at_most(row, _MOST_MS[kind])))
    return rows


def _by_client(deck: Deck, calls: int) -> Waits:
    found: Waits = deck.reader(calls)
    return found


def _by_driver(deck: Deck, calls: int) -> Waits:
    """The first page, all columns, as the rows come."""
    waits: list[float] = []
    connection: Any = deck.connection
    for _ in range(calls):
        started = time.perf_counter()
        connection.execute(_BARE_PAGE).fetchall()
        waits.append((time.perf_counter() - started) * 1e3)
    return {_BARE: waits}
