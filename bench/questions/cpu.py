"""Where do a worker's microseconds go? Sampled from outside by py-spy while it drains no-op runs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.deck import KINDS, SHOWN, Deck, Kind, new_deck
from bench.drain import Drained, Load, drain
from bench.process import Program
from bench.results import Row
from bench.room import Room

_COUNT = 20_000
_IN_FLIGHT = 100
_PER_SECOND = 250
_SHOWN = 12
# What imports modules, or has no event loop yet, belongs to the start of the process.
_STARTING = "importlib._bootstrap"
_AT_WORK = "run_forever"
_THREAD = re.compile(r"^thread \(\d+\)(?:: (?P<name>.*))?$")


@dataclass(frozen=True, slots=True)
class Profile:
    """Samples of one drain."""

    drained: Drained
    by_thread: Counter[str]
    by_function: Counter[str]

    def us(self, samples: int) -> float:
        """What a number of samples stands for: its share of the measured CPU per run."""
        return self.drained.cpu_us * samples / max(self.by_thread.total(), 1)


def answer(room: Room) -> list[Row]:
    """CPU per run of each thread and of the functions that cost most by themselves, on both databases."""
    rows: list[Row] = []
    for kind in KINDS:
        found = room.rounds(f"CPU {SHOWN[kind]}", {"profile": partial(_measure, room, kind)})["profile"]
        rows += _rows(kind, found)
    return rows


def _rows(kind: Kind, found: Sequence[Profile]) -> list[Row]:
    before = f"{SHOWN[kind]}: CPU per run"
    rows = [Row(f"{before}, all threads", "us", tuple(each.drained.cpu_us for each in found))]
    for what, counters in (
        ("thread", [each.by_thread for each in found]),
        ("function", [each.by_function for each in found]),
    ):
        total: Counter[str] = sum(counters, Counter())
        for name, _ in total.most_common(_SHOWN):
            values = tuple(each.us(counter[name]) for each, counter in zip(found, counters, strict=True))
            rows.append(Row(f"{before}, {what} {name}", "us", values))
    return rows


def _measure(room: Room, kind: Kind) -> Profile:
    with new_deck(room, kind) as deck:
        count = room.count(_COUNT)
        deck.enqueue(count)
        output = deck.folder / "samples"
        drained = drain([_spied(room, deck, output)], Load(count, deck.has_ended), deck.folder)
        return _profile(drained, output)


def _spied(room: Room, deck: Deck, output: Path) -> Program:
    """The worker as a child of the sampler, which the kernel lets look at its own children."""
    worker = deck.worker(_IN_FLIGHT)
    sampler = [str(room.peers.with_name("py-spy")), "record", "--rate", str(_PER_SECOND), "--format", "raw"]
    options = ["--threads", "--function", "--nonblocking", "--output", str(output), "--"]
    return Program([*sampler, *options, *worker.command], worker.environment, wraps=True)


def _profile(drained: Drained, output: Path) -> Profile:
    by_thread, by_function = Counter[str](), Counter[str]()
    for line in output.read_text().splitlines():
        stack, _, samples = line.rpartition(" ")
        thread, *frames = stack.split(";")
        named = _THREAD.match(thread)
        name = (named and named["name"]) or "MainThread"
        if not frames or _STARTING in stack or (name == "MainThread" and _AT_WORK not in stack):
            continue
        by_thread[_kind_of(name)] += int(samples)
        by_function[frames[-1]] += int(samples)
    return Profile(drained, by_thread, by_function)


def _kind_of(thread: str) -> str:
    return re.sub(r"[-_ ]?\(?\d+.*$", "", thread) or thread
