"""Four workers and a console's client, each by a line of its own to one PostgreSQL; one line is cut and healed."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.deck import PATIENCE, Deck
from tests.acceptance.fleet import CONCURRENCY, Scene
from tests.link import linked

ROOT = Path(__file__).parents[2]
LEASE = 3.0


@pytest.mark.parametrize("database_kind", ["postgresql"])
def test_a_worker_that_was_cut_off_writes_nothing_when_it_comes_back(deck: Deck) -> None:
    """Cut off for twice its lease while it runs four: others finish them, once; what it writes late is refused."""
    direct = deck.url
    deck.settings |= {
        "PYTHONPATH": str(ROOT),
        "JOBDECK_HANDLERS": "tests.acceptance.cut_handlers",
        "JOBDECK_RUNNER__LEASE": f"{LEASE}s",
    }
    with ExitStack() as stack:
        lines = [stack.enter_context(linked(direct, f"127.0.0.{11 + number}")) for number in range(5)]
        deck.url = lines[4].url

        def start_worker(number: int) -> int:
            deck.url = lines[number].url
            pid = deck.worker("--concurrency", str(CONCURRENCY)).pid
            deck.url = lines[4].url
            return pid

        # Before their lines: a line that closes ends what hangs on it.
        stack.callback(deck.stop_workers)
        Scene(deck, direct, LEASE, start_worker, lines[0].cut, lines[0].heal).play()
        for worker in deck.workers:
            worker.send_signal(signal.SIGTERM)
        assert [worker.wait(PATIENCE) for worker in deck.workers] == [0, 0, 0, 0]
