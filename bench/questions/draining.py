"""Draining by jobdeck, as several questions need it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.deck import Deck, Kind, new_deck
from bench.drain import Drained, Load, drain
from bench.peers.peer import Kind as PeerKind
from bench.peers.peer import new_peer
from bench.room import Room


@dataclass(frozen=True, slots=True)
class Case:
    """What jobdeck is to drain, and how."""

    in_flight: int
    count: int
    job_type: str = "bench_noop"
    params: Mapping[str, object] = field(default_factory=dict)
    worker_environment: Mapping[str, str] = field(default_factory=dict)


def drain_fresh(room: Room, kind: Kind, case: Case) -> Drained:
    """Drain with nothing else in the database."""
    with new_deck(room, kind) as deck:
        return drain_deck(deck, case)


def drain_deck(deck: Deck, case: Case) -> Drained:
    """Drain with what is there already; all of that has ended."""
    deck.enqueue(case.count, case.job_type, case.params)
    worker = deck.worker(case.in_flight).with_environment(case.worker_environment)
    drained = drain([worker], Load(case.count, deck.has_ended), deck.folder)
    completed = deck.ask("SELECT count(*) FROM runs WHERE status = 'completed'")
    if completed < case.count:
        raise AssertionError(f"{case.count} runs ended, but only {completed} completed")
    return drained


def drain_peer(room: Room, kind: PeerKind, count: int, how: str = "one") -> Drained:
    """Drain by a peer with an empty storage."""
    with new_peer(room, kind) as peer:
        peer.enqueue(how, count)
        return peer.drain(count)


def rates(drained: Sequence[Drained]) -> tuple[float, ...]:
    """Runs per second, per round."""
    return tuple(each.per_second for each in drained)


def details(drained: Sequence[Drained]) -> dict[str, tuple[float, ...]]:
    """What else is known of these rounds."""
    return {
        "worker_cpu_us_per_run": tuple(each.cpu_us for each in drained),
        "worker_rss_mib": tuple(each.rss_mib for each in drained),
        "started_again": tuple(float(each.again) for each in drained),
    }
